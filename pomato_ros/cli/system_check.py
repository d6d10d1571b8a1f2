"""What set-up needs from the operating system; standard library only, because nothing else is installed yet."""

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PYTHON_MINIMUM = (3, 10)
PYTHON_BEYOND = (3, 14)
GLIBC_MINIMUM = (2, 28)
DISK_NEEDED_GB = 3.0
APT = "sudo apt install "


@dataclass(frozen=True)
class Finding:
    """One thing looked for: what was found, and the command that mends it when it is missing."""

    name: str
    ok: bool
    found: str
    mend: str = ""


def check_system(root: Path, *, ros_sourced: bool) -> list[Finding]:
    """Everything set-up needs before it can start.

    Args:
        root: the repository.
        ros_sourced: whether a ROS 2 installation is sourced; the pip wheels' own needs are checked only without one.
    """
    findings = [check_python(), check_venv(), check_headers(), *check_tools(), check_folder(root), check_disk(root)]
    return findings if ros_sourced else [*findings, check_platform()]


def check_python() -> Finding:
    """The interpreter's version."""
    version = sys.version_info[:2]
    return Finding(
        name="python",
        ok=PYTHON_MINIMUM <= version < PYTHON_BEYOND and platform.python_implementation() == "CPython",
        found=f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        mend="use CPython 3.10 to 3.13: make PYTHON=/path/to/python3.12 setup",
    )


def check_venv() -> Finding:
    """The modules that create virtual environments; Debian packs them apart."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    return Finding(
        name="venv",
        ok=not missing,
        found=f"modules {' and '.join(missing)} missing" if missing else "present",
        mend=APT + "python3-venv",
    )


def check_headers() -> Finding:
    """Python.h, for the generated message code."""
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    found = str(header) if header.is_file() else f"{header} missing"
    return Finding(name="python headers", ok=header.is_file(), found=found, mend=APT + "python3-dev")


def check_tools() -> list[Finding]:
    """The compilers, make and cmake."""
    wanted = (
        ("C compiler", (os.environ.get("CC", ""), "cc", "gcc", "clang"), "build-essential"),
        ("C++ compiler", (os.environ.get("CXX", ""), "c++", "g++", "clang++"), "build-essential"),
        ("make", ("make",), "make"),
        ("cmake", ("cmake",), "cmake"),
    )
    return [check_command(name, commands, package) for name, commands, package in wanted]


def check_command(name: str, commands: tuple[str, ...], package: str) -> Finding:
    """The first of some commands that is on PATH; ``package`` is the Debian package that brings it."""
    path = next((found for found in map(shutil.which, filter(None, commands)) if found), None)
    return Finding(name=name, ok=path is not None, found=path or "missing", mend=APT + package)


def check_folder(root: Path) -> Finding:
    """The clone's own path: colcon's set-up scripts and virtual environments break on spaces and colons."""
    bad = sorted({character for character in str(root) if character.isspace() or character in ":;'\"$`"})
    return Finding(
        name="folder",
        ok=not bad,
        found=f"{root}{' has characters that colcon cannot handle: ' + ' '.join(map(repr, bad)) if bad else ''}",
        mend="move this clone to a path without spaces and quotes",
    )


def check_disk(root: Path) -> Finding:
    """Room for the virtual environment."""
    free_gb = shutil.disk_usage(root).free / 1e9
    done = (root / ".venv").is_dir()
    return Finding(
        name="disk space",
        ok=done or free_gb >= DISK_NEEDED_GB,
        found=f"{free_gb:.1f} GB free",
        mend=f"free {DISK_NEEDED_GB:.0f} GB (8 GB with CUDA) on the disk that holds {root}",
    )


def check_platform() -> Finding:
    """The pip wheels of ROS 2 exist for x86_64 Linux with a glibc of 2.28 or newer, and not inside conda."""
    library, version = platform.libc_ver()
    machine = platform.machine()
    conda = (Path(sys.base_prefix) / "conda-meta").is_dir()
    glibc = tuple(int(part) for part in version.split(".")[:2]) if library == "glibc" else (0, 0)
    return Finding(
        name="platform",
        ok=sys.platform == "linux" and machine == "x86_64" and glibc >= GLIBC_MINIMUM and not conda,
        found=f"{sys.platform} {machine}, {library or 'unknown C library'} {version}{', conda' if conda else ''}",
        mend="the pip wheels of ROS 2 need x86_64 Linux, glibc 2.28 or newer and a Python outside conda; "
        "elsewhere install ROS 2 and source it first: . /opt/ros/jazzy/setup.sh",
    )


def mending_commands(findings: list[Finding]) -> dict[str, list[str]]:
    """The commands that mend what is missing, each with the names of what it mends; one command for all of apt's."""
    commands: dict[str, list[str]] = {}
    packages: dict[str, None] = {}
    from_apt = [item for item in findings if not item.ok and item.mend.startswith(APT)]
    for item in from_apt:
        packages[item.mend.removeprefix(APT)] = None
    if packages:
        commands[APT + " ".join(packages)] = [item.name for item in from_apt]
    for item in findings:
        if not item.ok and item not in from_apt:
            commands.setdefault(item.mend, []).append(item.name)
    return commands


def is_ros_sourced() -> bool:
    """Whether a real ROS 2 is set up in this shell; the pip wheels of this or another clone do not count."""
    return (
        bool(os.environ.get("AMENT_PREFIX_PATH"))
        and bool(os.environ.get("ROS_DISTRO"))
        and "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in os.environ
        and importlib.util.find_spec("rclpy") is not None
        and importlib.util.find_spec("ros_wheels_bootstrapper") is None
    )
