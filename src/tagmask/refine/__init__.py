"""Pure functions on score maps."""
