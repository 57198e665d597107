"""Completions kept across failures, so that no answered window is paid for twice."""
