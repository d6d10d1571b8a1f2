"""Results on any file system that fsspec knows: a file has its final name only when it is whole."""

import os
from dataclasses import dataclass, field
from typing import Any

import fsspec

PART = ".part"


@dataclass(frozen=True)
class Store:
    """A folder at a URI such as ``out``, ``file:///data/out`` or ``s3://bucket/out``."""

    uri: str
    _fs: Any = field(init=False, repr=False, compare=False)
    _root: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find the file system."""
        file_system, root = fsspec.core.url_to_fs(self.uri)
        object.__setattr__(self, "_fs", file_system)
        object.__setattr__(self, "_root", root.rstrip("/"))

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        """Travels as its URI."""
        return Store, (self.uri,)

    def exists(self, name: str) -> bool:
        """Whether a whole file is there."""
        return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """All of a file.

        Raises:
            FileNotFoundError: it is not there.
        """
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a file under another name, then give it its own."""
        path = self._path(name)
        unfinished = f"{path}.{os.getpid()}{PART}"
        self._fs.makedirs(os.path.dirname(path), exist_ok=True)
        with self._fs.open(unfinished, "wb") as stream:
            stream.write(content)
        self._fs.mv(unfinished, path)

    def names(self, folder: str) -> list[str]:
        """Names of the whole files directly in a folder, in order."""
        place = self._path(folder)
        if not self._fs.isdir(place):
            return []
        found = [os.path.basename(path) for path in self._fs.ls(place, detail=False, refresh=True)]
        return sorted(name for name in found if not name.endswith(PART))

    def remove_parts(self) -> int:
        """Delete what was never finished; the number of files. Only where nothing else writes here."""
        if not self._fs.isdir(self._root):
            return 0
        parts = [path for path in self._fs.find(self._root) if path.endswith(PART)]
        for path in parts:
            self._fs.rm_file(path)
        return len(parts)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
