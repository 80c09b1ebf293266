"""Generated tables and pictures of the pages: what made them, whether they are stale, making them anew."""
