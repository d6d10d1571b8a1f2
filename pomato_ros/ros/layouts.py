"""The RViz and Foxglove layouts for a node of another name, with other frames."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pomato_ros.ros.launch_settings import NODE_NAME


def adapted_layout(path: Path, node_name: str, frames: Mapping[str, str]) -> str:
    """The text of a layout (`.rviz` or `.json`) for the node ``node_name`` (absolute).

    Args:
        path: the package's own layout, made for `/pomato`.
        node_name: what takes the place of `/pomato`.
        frames: new names by the old ones, such as `odom`.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.dumps(adapted(json.loads(text), node_name, frames), indent=2) + "\n"
    return yaml.safe_dump(adapted(yaml.safe_load(text), node_name, frames), sort_keys=False)


def adapted(value: Any, node_name: str, frames: Mapping[str, str]) -> Any:
    """A nested document with every topic of `/pomato` and every frame renamed, in keys and in values."""
    if isinstance(value, dict):
        return {adapted(key, node_name, frames): adapted(item, node_name, frames) for key, item in value.items()}
    if isinstance(value, list):
        return [adapted(item, node_name, frames) for item in value]
    if not isinstance(value, str):
        return value
    if value == f"/{NODE_NAME}" or value.startswith(f"/{NODE_NAME}/"):
        return node_name + value.removeprefix(f"/{NODE_NAME}")
    named = value.replace(f'"{NODE_NAME}: ', f'"{node_name.strip("/")}: ')  # statuses in /diagnostics
    return frames.get(named, named)
