"""The graph between capture and disk: recorded nodes in scopes, assembled into ONNX with onnx-ir."""
