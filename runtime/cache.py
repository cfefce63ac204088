"""Compiled programs on disk: written once, found by any later process on the same kind of processor.

An entry is a file named by the hash of everything the code depends on (the caller builds the key), holding a digest and
the payload. Writers race freely: each writes a file of its own and renames it into place. A reader that meets a damaged
entry removes it, warns, and reports a miss. A folder that cannot be used is told once, and the program runs without a
cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from pathlib import Path

_MAGIC = b"thalweg-cache-1\n"
_DIGEST = 32


def digest(*parts: str | bytes) -> str:
    """A key from parts; the boundaries between parts count."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


class DiskCache:
    """Bytes by key in a folder, with a bound on their total size.

    Args:
        folder: created when first written to.
        limit: bytes; beyond it the least recently used entries go.

    Example:
        >>> cache = DiskCache(folder, limit=2**30)
        >>> cache.put(key, b"…"); cache.get(key)
        b'…'
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._told = False

    def get(self, key: str) -> bytes | None:
        """The payload, or None if it is not there or damaged."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell(error)
            return None
        header = len(_MAGIC) + _DIGEST
        payload = data[header:]
        if not data.startswith(_MAGIC) or hashlib.sha256(payload).digest() != data[len(_MAGIC) : header]:
            with contextlib.suppress(OSError):
                path.unlink()
            warnings.warn(
                f"{path} was damaged and has been removed; what it held is made anew.", RuntimeWarning, stacklevel=3
            )
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # least recently *used* goes first
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store a payload; readers see all of it or nothing."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(payload).digest() + payload)
                os.replace(name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(name)
                raise
        except OSError as error:
            self._tell(error)
            return
        self._trim()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"the compilation cache in {self.folder} cannot be used ({error}); programs are compiled anew in "
                "every process. Set THALWEG_CACHE_DIR to a writable folder, or THALWEG_CACHE=0.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _trim(self) -> None:
        """Drop least recently used entries until the folder is within its limit."""
        entries = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                entries.append((stat.st_mtime, stat.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.limit
        for _, size, path in sorted(entries):
            if excess <= 0:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            excess -= size
