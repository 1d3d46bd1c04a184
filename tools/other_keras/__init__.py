"""What is proven with Keras 2 and with older Keras 3 themselves, in environments of their own."""
