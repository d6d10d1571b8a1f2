"""The package's manifests agree with each other and with the sources."""

import ast
import importlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

# What a ROS user installs for each third-party module; the keys are rosdep's.
ROSDEP_KEYS = {
    "PIL": "python3-pil",
    "cv2": "python3-opencv",
    "matplotlib": "python3-matplotlib",
    "numpy": "python3-numpy",
    "rich": "python3-rich",
    "scipy": "python3-scipy",
    "torch": "python3-pytorch-pip",
    "typer": "python3-typer",
    "yaml": "python3-yaml",
}
# Not in rosdep: setup.py and docs/install.md name them for pip.
PIP_ONLY = {"gtsam", "rosbags", "pyarrow", "fsspec", "ray", "rerun", "safetensors", "mcap", "onnx", "onnxruntime"}
PIP_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "rerun": "rerun-sdk",
    "yaml": "PyYAML",
}


def imported_modules(folder: Path) -> set[str]:
    """Top-level names of everything outside the standard library and this package that the sources import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call):
                names.update(modules_loaded_by(node))
    return names - set(sys.stdlib_module_names) - {"pomato_ros"}


def modules_loaded_by(call: ast.Call) -> set[str]:
    """The top-level name in importlib.import_module("name.inner")."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr == "import_module"):
        return set()
    return {item.value.partition(".")[0] for item in call.args if isinstance(item, ast.Constant)}


def manifest(repository_root: Path) -> ElementTree.Element:
    return ElementTree.parse(repository_root / "package.xml").getroot()


def run_dependencies(repository_root: Path) -> set[str]:
    return {item.text or "" for tag in ("depend", "exec_depend") for item in manifest(repository_root).findall(tag)}


def python_requirements(repository_root: Path) -> set[str]:
    text = (repository_root / "setup.py").read_text()
    return {name.lower() for name in re.findall(r'^\s+"([A-Za-z][\w-]*)[><=]', text, flags=re.MULTILINE)}


def test_the_version_stands_in_package_xml_alone(repository_root: Path) -> None:
    version = manifest(repository_root).findtext("version") or ""
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert f'"{version}"' not in (repository_root / "setup.py").read_text()
    assert f'"{version}"' not in (repository_root / "CMakeLists.txt").read_text()


def test_the_maintainer_has_an_address_that_can_exist(repository_root: Path) -> None:
    maintainer = manifest(repository_root).find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)*\.[a-z]{2,}", maintainer.get("email", ""))
    assert not maintainer.get("email", "").endswith((".invalid", ".example", ".test"))


def test_every_message_is_built_and_every_field_has_a_comment(repository_root: Path) -> None:
    listed = set(re.findall(r'"(msg/\w+\.msg)"', (repository_root / "CMakeLists.txt").read_text()))
    files = sorted((repository_root / "msg").iterdir())
    assert listed == {f"msg/{path.name}" for path in files}
    for path in files:
        fields = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert fields, path
        assert all("#" in line for line in fields), path


def test_every_import_of_a_ros_user_is_in_package_xml(repository_root: Path) -> None:
    known = run_dependencies(repository_root)
    imported = imported_modules(repository_root / "pomato_ros") | imported_modules(repository_root / "launch")
    missing = {name for name in imported - PIP_ONLY if ROSDEP_KEYS.get(name, name) not in known}
    assert not missing


def test_every_python_import_is_in_setup_py(repository_root: Path) -> None:
    known = python_requirements(repository_root)
    third_party = imported_modules(repository_root / "pomato_ros") & (set(ROSDEP_KEYS) | PIP_ONLY)
    assert {PIP_NAMES.get(name, name).lower() for name in third_party} <= known


# Needed without being imported: generated code, and programs that the launch file starts.
NOT_IMPORTED = {"ros2bag", "ros2launch", "rosbag2_storage_default_plugins", "rosidl_default_runtime", "rviz2"}


def test_package_xml_names_nothing_that_is_not_used(repository_root: Path) -> None:
    imported = imported_modules(repository_root / "pomato_ros") | imported_modules(repository_root / "launch")
    used = {ROSDEP_KEYS.get(name, name) for name in imported}
    assert run_dependencies(repository_root) - used == NOT_IMPORTED


def test_every_installed_script_exists_and_is_executable(repository_root: Path) -> None:
    scripts = re.findall(r"scripts/(\w+)", (repository_root / "CMakeLists.txt").read_text())
    assert sorted(scripts) == sorted(path.name for path in (repository_root / "scripts").iterdir())
    assert all((repository_root / "scripts" / name).stat().st_mode & 0o111 for name in scripts)


def test_messages_and_modules_are_one_package() -> None:
    pytest.importorskip("rclpy")
    messages = importlib.import_module("pomato_ros.msg")
    config = importlib.import_module("pomato_ros.config")
    track = messages.TrackArray(tracks=[messages.Track(id=7)]).tracks[0]
    assert track.id == 7
    assert config.PomatoConfig().window.window_size > 0


def files_with_tests(repository_root: Path) -> list[Path]:
    return sorted((repository_root / "test").rglob("test_*.py"))


def test_no_two_test_files_share_a_base_name(repository_root: Path) -> None:
    """The pytest hook of launch_testing, there wherever ROS 2 is, imports each of them by its base name alone."""
    counts = Counter(path.name for path in files_with_tests(repository_root))
    assert {name for name, count in counts.items() if count > 1} == set()


BY_BASE_NAME = """
import importlib
import sys
from pathlib import Path


def pytest_pycollect_makemodule(module_path, parent):
    sys.path.insert(0, str(module_path.parent))
    assert Path(importlib.import_module(module_path.stem).__file__) == module_path
"""


def test_tests_are_collected_beside_a_hook_that_imports_them_by_base_name(
    repository_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "by_base_name.py").write_text(BY_BASE_NAME)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "by_base_name"]
    command += ["-p", "no:cacheprovider", "test/geometry", "test/training", "test/test_config.py", "test/launch"]
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(command, cwd=repository_root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
