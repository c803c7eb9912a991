"""Training: a frozen state, one jitted step, whole epochs, and what they are made of."""
