"""Training from weak labels: what turns images and their tags into a segmenter of one's own."""
