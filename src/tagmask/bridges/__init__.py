"""Tagmask inside other tools: one tool per file, each with an extra of its own."""
