"""edgepress plan: a recipe's main(job) run dry, every file real, nothing trained."""
