"""PyTorch's CPU random stream in NumPy, bit for bit."""
