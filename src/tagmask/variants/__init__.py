"""Dense methods: each paper's change to CLIP's last block, one file per paper; `catalogue` lists them."""
