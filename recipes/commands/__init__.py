"""One command a file; each has `execute(arguments)`, imported when it is asked for."""
