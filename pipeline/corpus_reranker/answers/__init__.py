"""From a completion to the order of a window. Standard library only."""
