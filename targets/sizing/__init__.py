"""Where the bytes of a file are, by cause; and what its download takes."""
