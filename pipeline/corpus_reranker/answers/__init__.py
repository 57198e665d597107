"""Answer parsers, one per answer format: they turn a completion into the order of a window. Standard library only."""
