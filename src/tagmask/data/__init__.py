"""Data sets: folders of a benchmark in their published layout -> images, tags, masks."""
