"""Recordings to work on: paths, globs, lists in a file, and URIs of any file system that fsspec knows."""

import glob
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec

from pomato_ros.errors import ConfigError
from pomato_ros.mapping.sources import FrameSequence, open_frames

LIST_SUFFIX = ".txt"


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Every recording that ``inputs`` name, each once, in order; a .txt file lists one a line.

    Raises:
        ConfigError: a pattern that matches nothing, or no input.
    """
    found: list[str] = []
    for text in inputs:
        if text.endswith(LIST_SUFFIX):
            found += [line.strip() for line in _read_text(text).splitlines() if line.strip() and line[0] != "#"]
        elif glob.has_magic(text):
            matches = _matches(text)
            if not matches:
                raise ConfigError(f"nothing matches '{text}'; expected at least one recording")
            found += matches
        else:
            found.append(text)
    if not found:
        raise ConfigError("expected at least one recording, got none")
    return list(dict.fromkeys(found))


def folder_of(uri: str) -> str:
    """Name of the folder of a recording's results: its own name, and a digest that tells equal names apart."""
    name = PurePosixPath(uri.rstrip("/")).name or "input"
    place = uri if "://" in uri else str(Path(uri).absolute())
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


@contextmanager
def open_input(uri: str) -> Iterator[FrameSequence]:
    """The frames of a recording; what is not on this machine is fetched to a folder that is removed afterwards.

    Raises:
        UnusableFrame: it cannot be read.
        OSError: it cannot be fetched.
    """
    if "://" not in uri or uri.startswith("file://"):
        yield open_frames(Path(uri.removeprefix("file://")))
        return
    file_system, path = fsspec.core.url_to_fs(uri)
    with tempfile.TemporaryDirectory(prefix="pomato-") as folder:
        local = Path(folder) / PurePosixPath(path).name
        file_system.get(path, str(local), recursive=file_system.isdir(path))
        yield open_frames(local)


def _matches(pattern: str) -> list[str]:
    """What a glob matches, in order, with its protocol."""
    if "://" not in pattern:
        return sorted(glob.glob(pattern))
    file_system, path = fsspec.core.url_to_fs(pattern)
    return sorted(str(file_system.unstrip_protocol(match)) for match in file_system.glob(path))


def _read_text(uri: str) -> str:
    with fsspec.open(uri, "r", encoding="utf-8") as stream:
        return str(stream.read())
