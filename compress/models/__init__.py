"""The nets of edgepress, one file a family, the paper on top."""
