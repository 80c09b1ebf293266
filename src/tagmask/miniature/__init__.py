"""A small world that this project draws, with exact truth, and the small CLIP trained on it."""
