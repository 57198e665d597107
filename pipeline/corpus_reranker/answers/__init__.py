"""From a completion to the order of a window: one parser per answer format. Standard library only."""
