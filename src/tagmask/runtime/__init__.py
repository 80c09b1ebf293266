"""Finding images, writing line and tag files, diagnostics."""
