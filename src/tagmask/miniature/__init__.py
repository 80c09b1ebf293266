"""The miniature data set: drawn scenes with exact ground truth, and the small CLIP trained on them."""
