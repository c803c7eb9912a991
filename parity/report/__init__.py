"""What a person sees of a comparison: lines, tables, a page."""
