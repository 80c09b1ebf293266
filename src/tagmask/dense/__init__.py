"""One pass through the frozen tower, and the pure functions on what it leaves."""
