"""Training of the miniature CLIP from images and captions."""
