"""Writes what is derived from the typed config: ``config/pomato.yaml`` and ``docs/parameters.md``.

Run ``python -m pomato_ros.cli.parameter_files`` from the root of the repository after a change of an option.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from pomato_ros.config import OptionInfo, iter_options

GENERATED = "Generated from pomato_ros/config.py by python -m pomato_ros.cli.parameter_files; a test compares them."
WIDTH = 112
GROUP_TITLES = {
    "model": "Model: which weights, on what device",
    "window": "Window: how frames become windows",
    "scene": "Scene: from predictions to points, masks and tracks",
    "sensor": "Sensor: the depth camera or stereo pair of the backends rgbd and stereo",
    "scale": "Scale: where metres come from",
    "frames": "Frames: names on TF",
    "input": "Input: what comes in",
    "robustness": "Robustness: when an answer is not to be trusted",
    "output": "Output: what goes out",
}


def parameters_yaml() -> str:
    """``config/pomato.yaml``: every parameter with its default, its meaning above it."""
    lines = [f"# {GENERATED}", "# Every parameter of the node with its default; keep only what you change.", ""]
    lines += ["/**:", "  ros__parameters:"]
    for title, options in grouped_options():
        lines += ["", f"    # -- {title}"]
        for info in options:
            comment = textwrap.wrap(f"{info.description} ({facts(info)})", WIDTH)
            lines += [*(f"    # {line}" for line in comment), f"    {info.name}: {yaml_value(info.default)}"]
    return "\n".join([*lines, ""])


def parameters_markdown() -> str:
    """``docs/parameters.md``: the same as tables."""
    lines = [
        "# Parameters",
        "",
        f"<!-- {GENERATED} -->",
        "",
        "Every parameter of the node `pomato`. *Dynamic* ones can be changed while it runs (`ros2 param set`, "
        "rqt_reconfigure); the others are read when the node starts. A value that does not suit is refused with the "
        "reason. The quality of service of every topic can be overridden too, for instance "
        "`qos_overrides./image.subscription.reliability: reliable`.",
    ]
    for title, options in grouped_options():
        lines += ["", f"## {title}", "", "| parameter | default | unit | allowed | dynamic | meaning |"]
        lines += ["|---|---|---|---|---|---|", *(table_row(info) for info in options)]
    return "\n".join([*lines, ""])


def grouped_options() -> Iterator[tuple[str, list[OptionInfo]]]:
    """Options by group, each with the group's title."""
    for group, options in groupby(iter_options(), key=lambda info: info.group):
        yield GROUP_TITLES[group], list(options)


def table_row(info: OptionInfo) -> str:
    """One row of a table."""
    default = f"`{yaml_value(info.default)}`"
    cells = (f"`{info.name}`", default, info.unit, allowed(info), "yes" if info.dynamic else "", info.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def facts(info: OptionInfo) -> str:
    """Unit, range and kind of an option in a few words."""
    parts = [info.unit, allowed(info), "dynamic" if info.dynamic else "read at start"]
    return "; ".join(part for part in parts if part)


def allowed(info: OptionInfo) -> str:
    """The choices or the range of an option."""
    if info.choices:
        return ", ".join(info.choices)
    if info.minimum is not None and info.maximum is not None:
        return f"{info.minimum:g} to {info.maximum:g}"
    if info.minimum is not None:
        return f"at least {info.minimum:g}"
    return "" if info.maximum is None else f"at most {info.maximum:g}"


def yaml_value(value: object) -> str:
    """A default as YAML reads it with its own type: floats keep their point, strings their quotes."""
    return json.dumps(value)


def write_files(root: Path) -> list[Path]:
    """Write both files below the repository's root; their paths."""
    files = {
        root / "config" / "pomato.yaml": parameters_yaml(),
        root / "docs" / "parameters.md": parameters_markdown(),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def main() -> int:
    """Write into the current folder, which must be the repository's root."""
    if not Path("pomato_ros/config.py").is_file():
        sys.stderr.write("expected to be run from the root of the repository\n")
        return 1
    for path in write_files(Path()):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
