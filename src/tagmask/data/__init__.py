"""Benchmarks' folders as they lie on disk, read lazily as samples: an image, its tags, its mask."""
