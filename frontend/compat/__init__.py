"""Models of other formats."""
