"""The models: layers with PyTorch's semantics, the nets, and `create_model`."""
