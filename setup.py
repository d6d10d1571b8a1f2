"""Metadata of the Python package, for a ROS-free `pip install .`; colcon builds from CMakeLists.txt instead.

The version stands in package.xml alone.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
SHARED = ("config", "launch", "layouts")  # as CMakeLists.txt installs them


def files_in(folder: str) -> list[Path]:
    """The files of a folder, in order."""
    return sorted(path for path in (ROOT / folder).iterdir() if path.is_file())


setup(
    name="pomato_ros",
    version=VERSION,
    description="Online 3-D perception among moving things from one camera, as a ROS 2 node",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pomato_ros", "pomato_ros.*"]),
    package_data={"pomato_ros": ["py.typed", "samples/**/*", "weights/**/*"]},
    data_files=[
        *((f"share/pomato_ros/{folder}", [f"{folder}/{path.name}" for path in files_in(folder)]) for folder in SHARED),
        ("share/pomato_ros", ["package.xml"]),
    ],
    python_requires=">=3.10,<3.14",
    install_requires=[
        "matplotlib>=3.8,<4",
        "mcap>=1.1,<2",
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.9,<6",
        "pillow>=10,<14",
        "PyYAML>=6,<7",
        "rich>=13,<16",
        "rosbags>=0.10,<0.12",
        "safetensors>=0.4.3,<0.9",
        "scipy>=1.11,<2",
        "torch>=2.4,<2.14",
        "typer>=0.12,<0.30",
    ],
    extras_require={
        "test": ["pytest>=7.4,<9", "mcap-ros2-support>=0.5,<1"],
        "export": [
            "onnx>=1.16,<2",
            "onnxruntime>=1.18,<2",
        ],
        "mapping": [
            "gtsam>=4.3,<5",  # asks for pytest 9, which ROS 2 Jazzy's own test tools do not know
        ],
        "batch": [
            "fsspec>=2024.2",
            "pyarrow>=15,<27",
            "ray>=2.40,<3",
        ],
        "viewer": [
            "rerun-sdk>=0.24,<0.50",
        ],
        "train": ["tensorboard>=2.15,<3"],  # events beside the JSON lines of a run's log
        "docs": ["mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.26,<2"],
        "dev": ["codespell>=2.3,<3", "import-linter>=2.1,<3", "mypy>=1.13,<3", "ruff>=0.9,<0.18"],
    },
    entry_points={"console_scripts": ["pomato = pomato_ros.cli.main:main"]},
    zip_safe=False,
)
