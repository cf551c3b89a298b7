"""edgepress.targets: from a candidate to files, and from files to measurements."""
