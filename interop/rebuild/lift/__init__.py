"""Patterns of nodes that are one Keras layer, a file a family; see ``interop/rebuild/lifting.py`` for the form."""
