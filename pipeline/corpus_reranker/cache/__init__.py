"""Caches: completions that survive a failure of their replica."""
