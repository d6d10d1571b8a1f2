"""The core knows no ROS: every module outside the ROS layer imports where ROS does not exist."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, importlib.abc, sys

class NoRos(importlib.abc.MetaPathFinder):
    blocked = ("rclpy", "launch", "launch_ros", "ament_index_python", "tf2_ros", "builtin_interfaces", "rcl_interfaces")

    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first in self.blocked or first.endswith("_msgs") or name == "pomato_ros.msg":
            raise ModuleNotFoundError(f"{name} is not for this layer", name=name)
        return None

sys.meta_path.insert(0, NoRos())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

HEAVY = ("torch", "rclpy", "numpy", "typer")


def modules_outside_ros(root: Path) -> list[str]:
    names = []
    for path in sorted((root / "pomato_ros").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[1] != "ros":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_every_module_outside_the_ros_layer_imports_without_ros(repository_root: Path) -> None:
    names = modules_outside_ros(repository_root)
    assert "pomato_ros.config" in names
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], cwd=repository_root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_the_command_line_starts_without_heavy_imports(repository_root: Path) -> None:
    program = (
        "import sys; from pomato_ros.cli.main import main; status = main(['--help']); "
        f"heavy = [name for name in {HEAVY} if name in sys.modules]; assert status == 0 and not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=repository_root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "demo" in result.stdout
