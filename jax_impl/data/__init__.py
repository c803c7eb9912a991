"""The data sets: the published formats, and what training takes."""
