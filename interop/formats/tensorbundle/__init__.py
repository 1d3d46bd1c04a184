"""TensorFlow's checkpoints (TensorBundle), read and written without TensorFlow.

What enters: a prefix such as ``ckpt/model-1``, or sources by key. What leaves: a lazy mapping of key to array, or
the files ``<prefix>.index`` and ``<prefix>.data-00000-of-00001``.

==============  ========================================================================
``table``       the index, a sorted string table: bytes to bytes
``schema``      the protobuf messages in it, and of the object graph
``elements``    TensorFlow's element types
``slices``      variables that are stored in parts
``reader``      entries, and the tensors they point at
``writer``      the same files, written one tensor at a time
``objects``     the object graph: which key belongs to which attribute of which object
``files``       what the files of a prefix are called, and where a prefix is
==============  ========================================================================

Invariants: the CRC32C of every byte is checked before a value leaves; damage is a FormatError that names the file
and the key; opening reads the index only.

Spec: tensorflow/core/util/tensor_bundle/tensor_bundle.h, tensorflow/core/protobuf/tensor_bundle.proto
"""
