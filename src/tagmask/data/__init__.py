"""Data sets, read lazily from their published folder layouts as samples: an image, its tags, its mask."""
