"""Publishes a finished output to a table in one atomic commit."""
