"""What the ROS 2 pip wheels need before CMake and a shell can use them, and the environment `pomato` runs in."""

import subprocess
from pathlib import Path

PATH_VARIABLES = (
    "PATH",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "PKG_CONFIG_PATH",
)
PLAIN_VARIABLES = ("ROS_DISTRO", "ROS_VERSION", "ROS_PYTHON_VERSION", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")

PREPEND = """\
_pomato_prepend() {
  eval "_pomato_value=\\${$1:-}"
  case ":$_pomato_value:" in
    *":$2:"*) ;;
    *) export "$1=$2${_pomato_value:+:$_pomato_value}" ;;
  esac
}
"""


def patch_wheel_cmake(venv: Path) -> int:
    """Replace the paths of the wheels' build machine in their CMake files; returns how many files changed."""
    site_packages = next((venv / "lib").glob("python3.*/site-packages"))
    python = site_packages.parent.name
    tag = python.replace("python", "cp").replace(".", "")
    built_at = f"/opt/python/{tag}-{tag}"
    include = _venv_include(venv)
    changed = 0
    for path in venv.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        here = text.replace(f"{built_at}/include/{python}", include)
        here = here.replace(f"{built_at}/lib/{python}/site-packages", str(site_packages))
        if here != text:
            path.write_text(here)
            changed += 1
    return changed


def _venv_include(venv: Path) -> str:
    """The folder of Python.h."""
    code = "import sysconfig; print(sysconfig.get_paths()['include'])"
    result = subprocess.run([venv / "bin" / "python", "-S", "-c", code], check=True, capture_output=True, text=True)
    return result.stdout.strip()


def write_local_setup(venv: Path) -> None:
    """The set-up files that the wheels lack; colcon finds them and chains them into `install/setup.sh`."""
    site_packages = next((venv / "lib").glob("python3.*/site-packages"))
    libraries = [*sorted(site_packages.glob("ros_*.libs")), venv / "lib"]
    lines = [
        "# Written by tools/setup.py: ROS 2 from the pip wheels in this virtual environment.",
        PREPEND.rstrip(),
        *(f'_pomato_prepend {name} "{venv}"' for name in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH")),
        f'_pomato_prepend PATH "{venv}/bin"',
        *(f'_pomato_prepend LD_LIBRARY_PATH "{folder}"' for folder in libraries),
        "export ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3 _ROS_WHEELS_BOOTSTRAP_COMPLETE=1",
    ]
    for name in ("local_setup.sh", "local_setup.bash"):
        (venv / name).write_text("\n".join(lines) + "\n")


def environment_script(root: Path, environment: dict[str, str]) -> str:
    """What `install/setup.sh` adds to an environment, as a script that a shell reads at once.

    The source tree comes first on PYTHONPATH, so that an edit counts without another build.

    Args:
        root: the repository, built.
        environment: the environment to start from.
    """
    before = {name: value for name, value in environment.items() if name not in ("PYTHONPATH", *PLAIN_VARIABLES)}
    command = f'. "{root}/install/setup.sh" && exec env -0'
    result = subprocess.run(["sh", "-c", command], env=before, cwd=root, check=True, capture_output=True, text=True)
    after = dict(item.split("=", 1) for item in result.stdout.split("\0") if "=" in item)
    after["PYTHONPATH"] = ":".join(filter(None, [str(root), after.get("PYTHONPATH", "")]))
    lines = ["# Written by tools/setup.py: ROS 2 and the messages of this clone, for a POSIX shell.", PREPEND.rstrip()]
    # A ROS 2 that is sourced now may not be sourced then, so its entries are kept as well; of PATH, nothing else is.
    prefixes = tuple(filter(None, after.get("AMENT_PREFIX_PATH", "").split(":")))
    for name in PATH_VARIABLES:
        entries = [entry for entry in after.get(name, "").split(":") if entry]
        if name == "PATH":
            entries = [f"{root}/.venv/bin", *(entry for entry in entries if entry.startswith(prefixes))]
        lines += [f'_pomato_prepend {name} "{entry}"' for entry in reversed(entries)]
    lines += [f'export {name}="{after[name]}"' for name in PLAIN_VARIABLES if name in after]
    return "\n".join(lines) + "\n"
