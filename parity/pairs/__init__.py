"""What is compared: a PyTorch model and its JAX twin, their weights and their optimizers."""
