"""Folders of images, one after another, surviving the bad ones."""
