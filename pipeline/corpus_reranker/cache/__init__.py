"""The completion cache: completions that survive the failure of a replica."""
