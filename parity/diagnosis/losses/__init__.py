"""What porting a loss tends to get wrong, and the trying of it on PyTorch's own loss."""
