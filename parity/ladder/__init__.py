"""How two implementations are compared: the rungs, and how near is near enough."""
