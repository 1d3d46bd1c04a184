"""Stored tensors and the variables of a model find each other.

=================  =====================================================================
``matching``       what every format's matcher says: pairs, and what is in doubt
``object_paths``   files whose keys are object paths: safetensors, npz, artifacts, ``.h5``
``object_graph``   TensorFlow checkpoints
``slots``          what an optimizer keeps for each variable
``keras_layout``   ``.weights.h5`` and ``.keras``
``legacy_layout``  ``.h5`` as Keras 2 writes weights
``loading``        checks, assignment, and what waits until a layer is built
=================  =====================================================================

Invariants: a variable is found by what it is called or by where it hangs in the object graph. Where a file tells two
of one shape apart by their number only, both are in doubt and neither is loaded.
"""
