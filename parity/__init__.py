"""Checks that a PyTorch model and its JAX twin are the same: outputs, training, accuracy."""
