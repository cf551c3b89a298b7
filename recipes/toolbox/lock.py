"""A lock on a folder for as long as a process lives: two runs never write in one folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from compress.errors import OutputError


class FolderLock:
    """Holds `folder`, which exists, until `close` or the process's end, kill -9 included.

    Raises OutputError where another run holds it. The folder itself is locked, so no file is left
    behind; a file system without locks is used without.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise OutputError(
                f"output folder {folder} is in use by a run that has not ended; wait for it, or "
                f"give another folder with --out"
            ) from error
        except OSError:  # no locks there: nothing to hold
            self.close()

    def close(self) -> None:
        """Let go; a second time does nothing."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.close()
