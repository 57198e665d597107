"""Outputs: lease, data files and the commit."""
