"""Datasets in, datasets out. The only room that imports Ray."""
