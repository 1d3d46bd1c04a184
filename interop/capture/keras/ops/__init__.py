"""One emitter per Keras operation, one file per family; see registry.py for the form."""
