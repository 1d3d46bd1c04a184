"""One handler per ONNX operator, one file per family; see ``interop/rebuild/registry.py`` for the form."""
