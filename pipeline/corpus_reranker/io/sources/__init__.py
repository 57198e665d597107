"""Input formats: the Source protocol, its registry and the sources of this package."""
