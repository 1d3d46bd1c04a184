"""Operations of TensorFlow in ONNX, a family a file: see ``registry``.

To add one, write its form in the file of its family, under the name it has in ``tf.raw_ops``.
"""

from interop.capture.tf_forms import complex_numbers, elementwise, gelu, images, indexing, linalg  # noqa: F401
