"""Recipes: the words, templates and settings of the papers' tables, as data."""
