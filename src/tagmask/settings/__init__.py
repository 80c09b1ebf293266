"""Recipes: every name and number of the papers' tables, as data."""
