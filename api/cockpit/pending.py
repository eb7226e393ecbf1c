"""Files that were uploaded for a preview: they wait up to an hour, on the disk of the server, to be taken in."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from api.uploads import room

SECONDS = 3_600
_SHA256 = re.compile("[0-9a-f]{64}")


class Pending:
    """A folder for each file, named by the SHA-256 of its bytes; all processes of the service share them."""

    def __init__(self, root: Path) -> None:
        """Use a folder, which need not exist yet."""
        self._root = root

    def keep(self, path: Path, sha256: str) -> Path:
        """Move a file here, and return where it is; older files are removed. Raises Refusal if there is no room."""
        self.sweep()
        with room():
            folder = self._folder(sha256)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
            return Path(shutil.move(path, folder / path.name))

    def find(self, sha256: str) -> Path | None:
        """Return the file with this SHA-256; None if it was never here or has been removed."""
        if not _SHA256.fullmatch(sha256):
            return None
        with suppress(OSError):
            return next(iter(sorted(self._folder(sha256).iterdir())), None)
        return None

    def forget(self, sha256: str) -> None:
        """Remove a file."""
        if _SHA256.fullmatch(sha256):
            shutil.rmtree(self._folder(sha256), ignore_errors=True)

    def sweep(self) -> None:
        """Remove files that are too old."""
        with suppress(OSError):
            for folder in self._root.iterdir():
                with suppress(OSError):
                    if time.time() - folder.stat().st_mtime > SECONDS:
                        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, sha256: str) -> Path:
        return self._root / sha256
