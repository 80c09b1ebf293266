"""Metrics, and the protocols that reproduce the papers' figures."""
