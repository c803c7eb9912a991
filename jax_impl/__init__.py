"""CIFAR-10 classifiers in functional Flax, trained with Optax. Imports no PyTorch."""
