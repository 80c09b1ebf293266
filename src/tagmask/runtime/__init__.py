"""Folders of images and the files of a run."""
