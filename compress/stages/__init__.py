"""One stage a file: a frozen dataclass called with (candidate, task)."""
