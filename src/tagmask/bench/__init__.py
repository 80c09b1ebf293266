"""Metrics, and the protocols behind the papers' figures."""
