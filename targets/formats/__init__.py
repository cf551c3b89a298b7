"""One file format a module: exporters from a candidate to an artifact."""
