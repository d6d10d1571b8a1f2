"""`pomato layout`: the Foxglove or RViz layout for a node in a namespace, with its own frames."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pomato_ros.ros.layouts import adapted_layout

PACKAGE = Path(__file__).resolve().parent.parent
FILES = {"foxglove": "layouts/pomato.json", "rviz": "config/pomato.rviz"}


def layout(
    kind: Annotated[str, typer.Option(help=f"Which: {', '.join(FILES)}.")] = "foxglove",
    node: Annotated[str, typer.Option(help="Absolute name of the node.")] = "/pomato",
    odom_frame: Annotated[str, typer.Option(help="World-fixed frame, with its prefix.")] = "odom",
    base_frame: Annotated[str, typer.Option(help="The robot's own frame, with its prefix.")] = "base_link",
    out: Annotated[Path | None, typer.Option(help="File to write; without it standard output.")] = None,
) -> int:
    """Write the layout of a viewer for one node."""
    if kind not in FILES:
        raise typer.BadParameter(f"no layout {kind!r}; there are {', '.join(FILES)}", param_hint="--kind")
    text = adapted_layout(shared_file(FILES[kind]), node, {"odom": odom_frame, "base_link": base_frame})
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
    return 0


def shared_file(name: str) -> Path:
    """A file of the source tree, of the environment's share folder or of an installed ROS package.

    Raises:
        FileNotFoundError: It is in none of them.
    """
    prefixes = [Path(prefix) for prefix in [sys.prefix, *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]]
    places = [PACKAGE.parent / name, *(prefix / "share" / "pomato_ros" / name for prefix in prefixes)]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"expected {name} in one of {', '.join(str(path.parent) for path in places)}")
    return found
