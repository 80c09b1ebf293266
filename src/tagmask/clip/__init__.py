"""The frozen CLIP: reading weights, the image and text towers, the tokenizer."""
