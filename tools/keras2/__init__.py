"""What is proven with Keras 2 itself, in an environment of its own."""
