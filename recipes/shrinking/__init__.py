"""One command without a recipe: a net and pictures in, the file to ship and a report out."""
