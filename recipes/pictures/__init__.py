"""Pictures by path: found, labelled, decoded and brought to what a net takes, one at a time."""
