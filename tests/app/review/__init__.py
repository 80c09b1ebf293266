"""Tests of the review page's server."""
