"""A graph without its framework: ONNX Runtime, NumPy, and nothing that knows layers."""
