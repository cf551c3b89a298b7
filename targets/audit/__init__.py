"""What a runtime makes of a file: which layers it runs in int8, what its delegate took."""
