"""edgepress.recipes: scripts that compress one net for one task, and the command line."""
