"""One paper, one file, reading in the order of the paper."""
