"""The notebook as a package: PyTorch models, data and training. Imports no JAX."""
