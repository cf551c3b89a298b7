"""One place a module: where a runtime runs."""
