"""ONNX' own backend tests, run through ``interop.onnx_backend``."""
