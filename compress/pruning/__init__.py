"""Channel pruning: which channels go together, how much each matters, and how they are removed."""
