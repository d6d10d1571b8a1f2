"""The sdist builds a wheel, and the wheel runs without ROS, without this source tree and from another folder."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SOURCES = ("setup.py", "pyproject.toml", "package.xml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.rst")
FOLDERS = ("pomato_ros", "config", "launch", "layouts")
# What a machine without ROS 2 does not have; the wheel's own folder comes first.
WITHOUT_ROS = """
import sys
sys.path.insert(0, sys.argv.pop(1))
for name in ("rclpy", "std_msgs", "sensor_msgs", "nav_msgs", "geometry_msgs", "pomato_ros.msg", "ament_index_python"):
    sys.modules[name] = None
from pomato_ros.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run(command: list[str], folder: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def sdist(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy: builds leave folders behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SOURCES:
        shutil.copy(repository_root / name, copy / name)
    for name in FOLDERS:
        shutil.copytree(repository_root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    run([sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(copy / "dist")], copy)
    return next((copy / "dist").glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*command, "--wheel-dir", str(folder), str(next(folder.glob("pomato_ros-*/")))], folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's modules in a folder of their own."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def pomato(installed: Path, folder: Path, *arguments: str) -> str:
    return run([sys.executable, "-I", "-c", WITHOUT_ROS, str(installed), *arguments], folder)


def test_the_wheel_has_modules_weights_clip_and_the_files_that_ros_shares(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for wanted in ("pomato_ros/weights/nano.safetensors", "pomato_ros/samples/room/truth.npz", "pomato_ros/py.typed"):
        assert wanted in names
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert {"share/pomato_ros/config/fastdds.xml", "share/pomato_ros/launch/pomato.launch.py"} <= shared
    assert not any(name.startswith(("test/", "tools/", "build/")) for name in names)


def test_the_installed_command_names_its_subcommands_and_version(
    installed: Path, tmp_path: Path, repository_root: Path
) -> None:
    assert "demo" in pomato(installed, tmp_path, "--help")
    version = pomato(installed, tmp_path, "--version").split()[-1]
    assert f"<version>{version}</version>" in (repository_root / "package.xml").read_text()


def test_the_installed_demonstration_runs_without_ros(installed: Path, tmp_path: Path) -> None:
    pomato(installed, tmp_path, "demo", "--out", "demo", "--max-frames", "4")
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert (summary["frames_in"], summary["frames_unreadable"]) == (4, 0)
    assert (tmp_path / "demo" / "scene.png").is_file()
