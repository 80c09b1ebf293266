"""The papers' tables on the miniature data set: measured in minutes, without external data."""
