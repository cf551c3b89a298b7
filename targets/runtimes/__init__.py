"""One engine a module: load an artifact, predict, measure."""
