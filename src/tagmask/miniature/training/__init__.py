"""How the miniature CLIP is trained, from captions alone."""
