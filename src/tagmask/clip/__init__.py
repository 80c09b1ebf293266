"""The frozen CLIP: weights in, two towers and a tokenizer out."""
