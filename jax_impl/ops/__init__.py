"""How an operation reaches the hardware: one module each, and what XLA is told."""
