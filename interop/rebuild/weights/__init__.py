"""Stored tensors and the variables of a model find each other.

=================  =====================================================================
``matching``       what every format's matcher says: pairs, and what is in doubt
``object_paths``   files whose keys are object paths: safetensors, npz, artifacts, ``.h5``
``object_graph``   TensorFlow checkpoints
``keras_layout``   ``.weights.h5`` and ``.keras``
``loading``        checks, assignment, and what waits until a layer is built
=================  =====================================================================

Invariants: a variable is found by what it is called or by where it hangs in the object graph. Where a file tells two
of one shape apart by their number only, both are in doubt and neither is loaded.
"""
