"""Refuse files that are too large for the repository; the bundled weights and sample have a limit of their own."""

import sys
from pathlib import Path

LIMIT_KB = 500
BUNDLED_LIMIT_KB = 20_000
BUNDLED = (Path("pomato_ros/weights"), Path("pomato_ros/samples"))


def limit_kb(path: Path) -> int:
    """The largest size allowed for a file, in kB."""
    return BUNDLED_LIMIT_KB if any(folder in path.parents for folder in BUNDLED) else LIMIT_KB


def main(names: list[str]) -> int:
    """Name each file that is over its limit; 1 if there was any."""
    status = 0
    for path in map(Path, names):
        size_kb = path.stat().st_size / 1000
        if size_kb > limit_kb(path):
            sys.stdout.write(f"{path}: {size_kb:.0f} kB, over the limit of {limit_kb(path)} kB\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
