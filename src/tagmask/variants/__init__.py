"""What each paper does in CLIP's last block: one paper, one file; `catalogue` lists them all."""
