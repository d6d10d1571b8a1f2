"""`pomato doctor`: what is there, what is missing, and the command that mends it.

Also runs as `python3 -m pomato_ros.cli.doctor` before set-up, so nothing outside the standard library is imported at
the top.
"""

import hashlib
import importlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from pomato_ros.cli.system_check import Finding, check_system, is_ros_sourced, mending_commands

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent
SET_UP = "make setup"
ROSDEP = "rosdep install --from-paths . --ignore-src && make setup"
LIBRARIES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
    "PyYAML": "yaml",
    "typer": "typer",
    "rich": "rich",
    "mcap": "mcap",
}
MESSAGE_PACKAGES = (
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "nav_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "tf2_msgs",
    "vision_msgs",
    "visualization_msgs",
)
LARGEST_DOMAIN = 232
SHA256_PATTERN = re.compile(r"\b[0-9a-f]{64}\b")


def run_doctor() -> int:
    """Print what is installed, what is missing and the command that mends it.

    Returns:
        1 if anything is missing, else 0.
    """
    findings = list(examine())
    print_findings(findings)
    return 0 if all(finding.ok for finding in findings) else 1


def examine() -> Iterator[Finding]:
    """All findings, the operating system first."""
    yield from check_system(ROOT, ros_sourced=is_ros_sourced())
    for name, check in (
        ("virtual environment", check_environment),
        ("torch", check_torch),
        ("libraries", check_libraries),
        ("ROS 2", check_ros),
        ("ROS domain", check_domain),
        ("pomato_ros messages", check_messages),
        ("bundled weights", check_weights),
        ("sample clip", check_sample),
        ("video decoding", check_video),
        ("Fast DDS profile", check_fastdds),
    ):
        yield guarded(name, check)


def guarded(name: str, check: Callable[[str], Finding]) -> Finding:
    """The finding of one check; a module that fails to import is a finding too."""
    try:
        return check(name)
    except ImportError as error:
        return Finding(name, ok=False, found=f"{error}", mend=ROSDEP if is_ros_sourced() else SET_UP)


def check_environment(name: str) -> Finding:
    """The `.venv` of this clone, and whether this process runs in it."""
    expected = ROOT / ".venv"
    inside = Path(sys.prefix).resolve() == expected.resolve()
    installed = not (ROOT / "package.xml").is_file()
    state = f"there, but this is {sys.executable}" if expected.is_dir() else "missing"
    found = sys.prefix if inside or installed else f"{expected} {state}"
    return Finding(name, ok=inside or installed, found=found, mend=SET_UP)


def check_torch(name: str) -> Finding:
    """Torch, the device it would use, and whether that device computes in bf16."""
    import torch

    from pomato_ros.hardware import choose_device, computes_bf16

    device = choose_device("auto")
    on_gpu = device.type == "cuda"
    what = f"cuda: {torch.cuda.get_device_name()}" if on_gpu else f"cpu, {torch.get_num_threads()} threads"
    bf16 = "fast" if computes_bf16(device) else "not in hardware"
    return Finding(name, ok=True, found=f"{torch.__version__} on {what}, bf16 {bf16}")


def check_libraries(name: str) -> Finding:
    """The Python libraries; each is imported, because a broken one is as bad as none."""
    for module in LIBRARIES.values():
        importlib.import_module(module)
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("numpy", "PyYAML", "mcap"))
    return Finding(name, ok=True, found=f"{len(LIBRARIES)} of {len(LIBRARIES)} ({versions}, …)")


def check_ros(name: str) -> Finding:
    """The rclpy client library and the standard messages."""
    rclpy = importlib.import_module("rclpy")
    for package in MESSAGE_PACKAGES:
        importlib.import_module(f"{package}.{'srv' if package == 'std_srvs' else 'msg'}")
    distribution = os.environ.get("ROS_DISTRO", "jazzy")
    return Finding(name, ok=True, found=f"{distribution}, {module_folder(rclpy)}")


def module_folder(module: ModuleType) -> Path:
    """Where a package was imported from."""
    return Path(module.__file__ or "").parent


def check_messages(name: str) -> Finding:
    """The generated messages of this package, and that they are this clone's own where this is a clone."""
    folder = module_folder(importlib.import_module("pomato_ros.msg"))
    installed = not (ROOT / "package.xml").is_file()
    own = installed or is_inside(folder, ROOT)
    return Finding(name, ok=own, found=str(folder) if own else f"{folder}, of another clone than {ROOT}", mend=SET_UP)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def check_domain(name: str) -> Finding:
    """The number of the ROS domain: others on the network hear this machine in the same one only."""
    value = os.environ.get("ROS_DOMAIN_ID", "0") or "0"
    good = value.isascii() and value.isdigit() and int(value) <= LARGEST_DOMAIN
    expected = "" if good else f"; expected a whole number of 0 to {LARGEST_DOMAIN}"
    return Finding(name, ok=good, found=f"ROS_DOMAIN_ID {value!r}{expected}", mend="export ROS_DOMAIN_ID=0")


def check_weights(name: str) -> Finding:
    """The bundled weights, against the SHA-256 in a text file beside them."""
    files = sorted((PACKAGE / "weights").rglob("*.safetensors"))
    if not files:
        return Finding(
            name,
            ok=False,
            found=f"no .safetensors under {PACKAGE / 'weights'}",
            mend="git checkout -- pomato_ros/weights",
        )
    expected = {digest for text in weight_texts() for digest in SHA256_PATTERN.findall(text)}
    wrong = [path.name for path in files if sha256(path) not in expected]
    if wrong:
        found = f"{', '.join(wrong)}: the hash is not the one stored beside it"
        return Finding(name, ok=False, found=found, mend="git checkout -- pomato_ros/weights")
    total_mb = sum(path.stat().st_size for path in files) / 1e6
    return Finding(name, ok=True, found=f"{', '.join(path.name for path in files)} ({total_mb:.1f} MB, hash as stored)")


def weight_texts() -> list[str]:
    """The text files beside the weights: config, hash and model card."""
    suffixes = (".json", ".md", ".sha256", ".txt")
    return [path.read_text() for path in sorted((PACKAGE / "weights").rglob("*")) if path.suffix in suffixes]


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_sample(name: str) -> Finding:
    """The bundled sample clip."""
    files = [path for path in (PACKAGE / "samples").rglob("*") if path.is_file()]
    total_mb = sum(path.stat().st_size for path in files) / 1e6
    found = f"{len(files)} files, {total_mb:.1f} MB" if files else f"nothing under {PACKAGE / 'samples'}"
    return Finding(name, ok=bool(files), found=found, mend="git checkout -- pomato_ros/samples")


def check_video(name: str) -> Finding:
    """Whether OpenCV can read video files (the ffmpeg program itself is not needed)."""
    import cv2

    enabled = bool(re.search(r"FFMPEG:\s+YES", cv2.getBuildInformation()))
    return Finding(
        name,
        ok=enabled,
        found=f"OpenCV {cv2.__version__} {'with' if enabled else 'without'} FFmpeg",
        mend=".venv/bin/pip install --force-reinstall opencv-python-headless",
    )


def check_fastdds(name: str) -> Finding:
    """The shared-memory profile that keeps large clouds whole."""
    places = [ROOT / "config" / "fastdds.xml", *(path / "config" / "fastdds.xml" for path in share_folders())]
    path = next((place for place in places if place.is_file()), None)
    return Finding(
        name, ok=path is not None, found=str(path or "config/fastdds.xml missing"), mend="git checkout -- config"
    )


def share_folders() -> list[Path]:
    """Where an installed package keeps its data."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return [Path(prefix) / "share" / "pomato_ros" for prefix in prefixes if prefix]


def print_findings(findings: list[Finding]) -> None:
    """Print the table and, below it, what to do."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print_plain(findings)
        return
    table = Table(title=f"pomato on {platform.node()}", title_justify="left")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row("[green]ok[/]" if finding.ok else "[bold red]missing[/]", finding.name, finding.found)
    console = Console()
    console.print(table)
    for line in advice(findings):
        console.print(line, markup=False, soft_wrap=True)


def print_plain(findings: list[Finding]) -> None:
    """The same without rich."""
    width = max(len(finding.name) for finding in findings)
    lines = [f"{'ok' if item.ok else 'MISSING':8}{item.name:{width + 2}}{item.found}" for item in findings]
    sys.stdout.write("\n".join([*lines, *advice(findings), ""]))


def advice(findings: list[Finding]) -> list[str]:
    """One line for each command that mends something, in order, none twice."""
    commands = mending_commands(findings)
    if not commands:
        return ["everything is there"]
    return ["to mend:"] + [f"  {command}    # {', '.join(names)}" for command, names in commands.items()]


if __name__ == "__main__":
    sys.exit(run_doctor())
