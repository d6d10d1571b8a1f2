"""Set-up: from a fresh clone to a working `.venv/bin/pomato`; run it with `make setup`.

Each step remembers a hash of what it was made from (in `.venv/.steps`) and runs again only when that changes, or when
an earlier step ran. Output of the tools goes to `.venv/setup.log`. Standard library only.

Environment variables (docs/install.md): POMATO_TORCH_SPEC, POMATO_TORCH_INDEX, POMATO_ROS.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pomato_ros.cli.system_check import check_system, is_ros_sourced, mending_commands
from tools.ros_environment import environment_script, patch_wheel_cmake, write_local_setup

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
STEPS = VENV / ".steps"
STAND_INS = ROOT / "tools" / "pip_ros"
LINKED_FOLDERS = ("config", "launch", "layouts", "scripts")
PACKAGE_SOURCES = ("CMakeLists.txt", "package.xml", "LICENSE", "msg", "pomato_ros", *LINKED_FOLDERS)
LOG_TAIL_LINES = 15
TORCH_CHOICE = VENV / "torch_choice"
DEFAULT_TORCH = "torch"
TORCH_INDEX_BASE = "https://download.pytorch.org/whl/"
FOREIGN_VARIABLES = ("VIRTUAL_ENV", "PYTHONHOME", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
WHEEL_VARIABLES = (
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "ROS_DISTRO",
)


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Step:
    """One part of set-up.

    Attributes:
        name: shown to the user.
        inputs: text or files that the result depends on.
        action: does the work; its output goes to the log.
        advice: what to do when it fails.
    """

    name: str
    inputs: tuple[str | Path, ...]
    action: Callable[[], None]
    advice: str


def main(arguments: Sequence[str] = ()) -> int:
    """Bring `.venv`, `build` and `install` up to date; with ``--extras`` also what only tests need all of."""
    started = time.monotonic()
    with only_one_setup():
        try:
            mode = choose_ros()
            require_system(ros_sourced=mode == "sourced")
            done = run_steps(plan(mode, extras=arguments == ["--extras"]))
        except SetupError as error:
            say(f"\nset-up failed: {error}\n")
            return 1
    seconds = time.monotonic() - started
    say(f"set-up done in {seconds:.0f} s; try: .venv/bin/pomato --help\n" if done else "set-up is up to date\n")
    return 0


@contextmanager
def only_one_setup() -> Iterator[None]:
    """Wait for another set-up of the same clone to end."""
    with (ROOT / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def choose_ros() -> str:
    """Where ROS 2 comes from: "sourced" (from this shell, or earlier from a shell that had one) or "wheels".

    POMATO_ROS=sourced or POMATO_ROS=wheels decides it by hand.
    """
    wish = os.environ.get("POMATO_ROS", "auto")
    if wish not in ("auto", "sourced", "wheels"):
        raise SetupError(f"POMATO_ROS must be auto, sourced or wheels, got {wish!r}")
    sourced = is_ros_sourced()
    remembered = (VENV / "ros_mode").read_text().strip() if (VENV / "ros_mode").is_file() else ""
    if wish == "sourced" and not sourced and remembered != "sourced":
        raise SetupError("POMATO_ROS=sourced, but no ROS 2 is sourced; do it first: . /opt/ros/jazzy/setup.sh")
    if wish != "auto":
        return wish
    return "sourced" if sourced or remembered == "sourced" else "wheels"


def require_system(*, ros_sourced: bool) -> None:
    """Stop with the full list of what the operating system lacks."""
    findings = check_system(ROOT, ros_sourced=ros_sourced)
    missing = [f"  {finding.name}: {finding.found}" for finding in findings if not finding.ok]
    if missing:
        commands = [f"  {command}" for command in mending_commands(findings)]
        raise SetupError("\n".join(["this machine lacks", *missing, "to mend:", *commands]))


def plan(mode: str, *, extras: bool) -> list[Step]:
    """The steps in order."""
    base_python = str(getattr(sys, "_base_executable", sys.executable))
    constraints = ROOT / "constraints.txt"
    torch = torch_arguments()
    network = "no network, or no package for this Python? see docs/install.md"
    ros_inputs: tuple[str | Path, ...] = ()
    if mode == "wheels":
        ros_inputs = (ROOT / "tools" / "ros_wheels.txt", ROOT / "tools" / "ros_environment.py", constraints)
    steps = [
        Step(
            "virtual environment",
            (base_python, sys.version, mode, str(ROOT)),
            lambda: create_venv(base_python, mode),
            "sudo apt install python3-venv",
        ),
        Step(
            "torch",
            (" ".join(torch), constraint_lines("torch")),
            lambda: install_torch(torch),
            "POMATO_TORCH_INDEX=cpu (or cu126, cu130, or a URL) and POMATO_TORCH_SPEC choose another build; "
            "see docs/install.md",
        ),
        Step("ROS 2", ros_inputs, lambda: install_ros(mode), network),
        Step(
            "Python packages",
            (ROOT / "setup.py", constraints),
            lambda: pip_install("--no-build-isolation", "--editable", f"{ROOT}[test,dev,docs,export]"),
            network,
        ),
        Step(
            "messages",
            message_inputs(),
            lambda: build_messages(mode),
            "a compiler or cmake error above? `make clean setup` starts afresh",
        ),
        Step(
            "command line",
            (Path(__file__), ROOT / "tools" / "ros_environment.py"),
            lambda: install_command(mode),
            "`make clean setup` starts afresh",
        ),
    ]
    if extras:
        steps.append(Step("extras", (), install_extras, network))
    return steps


def run_steps(steps: list[Step]) -> bool:
    """Run the steps whose inputs changed, and all after a step that ran before them; True if there were any."""
    previous = ""
    done = False
    for number, step in enumerate(steps, start=1):
        previous = digest(previous, *step.inputs)
        stamp = STEPS / step.name.replace(" ", "_")
        if stamp.is_file() and stamp.read_text() == previous:
            continue
        done = True
        stamp.unlink(missing_ok=True)
        with shown(f"[{number}/{len(steps)}] {step.name}"):
            run_step(step)
        STEPS.mkdir(parents=True, exist_ok=True)
        stamp.write_text(previous)
    return done


def run_step(step: Step) -> None:
    """Run one step; on failure show the end of the log and the advice."""
    try:
        step.action()
    except (subprocess.CalledProcessError, OSError) as error:
        cause = f"status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(error)
        tail = LOG.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if LOG.is_file() else []
        lines = "\n".join(f"  | {line}" for line in tail)
        raise SetupError(f"{step.name}: {cause}\n{lines}\nwhole log: {LOG}\nwhat to do: {step.advice}") from error


def digest(previous: str, *inputs: str | Path) -> str:
    """A hash over texts and the contents of files; an input that changes changes all later digests too."""
    result = hashlib.sha256(previous.encode())
    for item in inputs:
        result.update(item.read_bytes() if isinstance(item, Path) else item.encode())
        result.update(b"\0")
    return result.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Actions


def create_venv(base_python: str, mode: str) -> None:
    """A new `.venv`; with a sourced ROS 2 it sees the system's packages, because ROS lives there."""
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    options = ["--system-site-packages"] if mode == "sourced" else []
    run([base_python, "-m", "venv", *options, str(VENV)])
    (VENV / "COLCON_IGNORE").touch()
    (VENV / "ros_mode").write_text(mode + "\n")
    (VENV / "base_python").write_text(base_python + "\n")


def torch_arguments() -> list[str]:
    """The pip arguments that choose torch: from the two variables, else as they were the last time."""
    if not any(name in os.environ for name in ("POMATO_TORCH_SPEC", "POMATO_TORCH_INDEX")) and TORCH_CHOICE.is_file():
        return TORCH_CHOICE.read_text().splitlines()
    arguments = [os.environ.get("POMATO_TORCH_SPEC") or DEFAULT_TORCH]
    index = os.environ.get("POMATO_TORCH_INDEX", "")
    if index:
        arguments += ["--extra-index-url", index if "://" in index else TORCH_INDEX_BASE + index]
    return arguments


def install_torch(arguments: list[str]) -> None:
    """Install torch, and remember where it came from once that worked."""
    pip_install(*arguments, torch=arguments[0])
    TORCH_CHOICE.write_text("\n".join(arguments) + "\n")


def constraint_lines(name: str) -> str:
    """The lines of constraints.txt about one package."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return "\n".join(line for line in lines if line.split("==")[0].split(">=")[0] == name)


def install_extras() -> None:
    """What only some commands use and all tests do; GTSAM without the newer pytest that it asks for."""
    pip_install("--no-build-isolation", "--editable", f"{ROOT}[batch,viewer]")
    pip_install("--no-deps", "gtsam")


def pip_install(*arguments: str, torch: str = "") -> None:
    """Install into `.venv` within the constraints; a torch that was chosen by hand has none.

    Args:
        arguments: of `pip install`.
        torch: the requirement for torch; empty means the one that is installed.
    """
    torch = torch or (TORCH_CHOICE.read_text().splitlines()[0] if TORCH_CHOICE.is_file() else DEFAULT_TORCH)
    constraints = ROOT / "constraints.txt"
    if torch != DEFAULT_TORCH:
        constraints = without_torch(constraints)
    options = ["--progress-bar", "off", "--disable-pip-version-check", "--constraint", str(constraints)]
    run([str(PYTHON), "-m", "pip", "install", *options, *arguments])


def without_torch(constraints: Path) -> Path:
    """A copy of the constraints that leaves torch to POMATO_TORCH_SPEC."""
    copy = VENV / "constraints.txt"
    lines = constraints.read_text().splitlines()
    copy.write_text("\n".join(line for line in lines if not line.startswith("torch==")) + "\n")
    return copy


def install_ros(mode: str) -> None:
    """ROS 2 from pip wheels; with a sourced ROS 2 only what building this package needs beside it."""
    if mode == "sourced":
        pip_install("setuptools", *([] if shutil.which("colcon") else ["colcon-common-extensions"]))
        return
    pip_install("--requirement", str(ROOT / "tools" / "ros_wheels.txt"))
    patch_wheel_cmake(VENV)
    write_local_setup(VENV)


def message_inputs() -> tuple[str | Path, ...]:
    """What the built package depends on: contents of the message sources, names of the files it links to."""
    sources = [ROOT / "CMakeLists.txt", ROOT / "package.xml", *(ROOT / "msg").glob("*.msg"), *STAND_INS.rglob("*")]
    linked = [path for folder in LINKED_FOLDERS for path in (ROOT / folder).iterdir()]
    contents = sorted(path for path in sources if path.is_file())
    return (*contents, *sorted(str(path) for path in linked))


def build_messages(mode: str) -> None:
    """Generate the messages with colcon into `build` and `install`."""
    for name in ("build", "install"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    packages = [str(stage_sources())]
    if mode == "wheels":
        packages += [str(manifest.parent) for manifest in sorted(STAND_INS.glob("*/package.xml"))]
    colcon = VENV / "bin" / "colcon"
    command = [str(colcon) if colcon.is_file() else "colcon", "build", "--symlink-install", "--paths", *packages]
    command += ["--event-handlers", "console_direct+", "--cmake-args", "-DBUILD_TESTING=OFF"]
    command += [f"-DPython3_EXECUTABLE={PYTHON}", f"-DPYTHON_EXECUTABLE={PYTHON}"]
    run(["sh", "-c", f'. "{ros_setup(mode)}" && exec "$@"', "sh", *command], keep_ros=mode == "sourced")


def ros_setup(mode: str) -> Path:
    """The script after which ROS 2 is there to build with."""
    if mode == "wheels":
        return VENV / "local_setup.sh"
    if is_ros_sourced():
        return Path("/dev/null")
    if not (VENV / "ros_env.sh").is_file():
        raise SetupError("this clone was set up with a sourced ROS 2; source it once more: . /opt/ros/jazzy/setup.sh")
    return VENV / "ros_env.sh"


def stage_sources() -> Path:
    """A folder of links to this package's sources.

    CMake refuses to export a target with an include folder (NumPy's, in `.venv`) inside the source folder.
    """
    stage = ROOT / "build" / "source" / "pomato_ros"
    stage.mkdir(parents=True)
    for name in PACKAGE_SOURCES:
        (stage / name).symlink_to(ROOT / name)
    return stage


def install_command(mode: str) -> None:
    """`.venv/bin/pomato`, and the environment it (and `make test`) runs in.

    Also makes a plain `.venv/bin/python` find this source tree and, with the wheels, the generated messages.
    """
    environment = child_environment(keep_ros=mode == "sourced")
    script = VENV / "ros_env.sh"
    script.write_text(environment_script(ROOT, environment))
    entry = VENV / "libexec" / "pomato.py"
    entry.parent.mkdir(exist_ok=True)
    # guarded, because processes that multiprocessing spawns read it again
    entry.write_text(
        "import sys\n\nfrom pomato_ros.cli.main import main\n\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    command = VENV / "bin" / "pomato"
    command.unlink(missing_ok=True)
    command.write_text(f'#!/bin/sh\n# Written by tools/setup.py.\n. "{script}"\nexec "{PYTHON}" "{entry}" "$@"\n')
    command.chmod(0o755)
    link_messages(mode)


def link_messages(mode: str) -> None:
    """Put the source tree and the generated messages on `.venv`'s path, and their libraries where the wheels look.

    The wheels' start-up hook adds each `ros_*.libs` folder in site-packages to the library path. With a sourced ROS 2
    only `.venv/ros_env.sh` can set that path.
    """
    site_packages = next((VENV / "lib").glob("python3.*/site-packages"))
    prefixes = sorted(path.parent for path in (ROOT / "install").glob("*/lib"))
    lines = [str(ROOT), *(str(path) for prefix in prefixes for path in prefix.glob("lib/python3.*/site-packages"))]
    if mode == "wheels":
        index = os.pathsep.join(map(str, [*prefixes, VENV]))
        lines.append(f'import os; os.environ.setdefault("AMENT_PREFIX_PATH", "{index}")')
    (site_packages / "pomato_ros_clone.pth").write_text("\n".join(lines) + "\n")
    for prefix in prefixes if mode == "wheels" else ():
        link = site_packages / f"ros_{prefix.name}_built.libs"
        link.unlink(missing_ok=True)
        link.symlink_to(prefix / "lib")


# ---------------------------------------------------------------------------------------------------------------------
# Running and showing


def child_environment(*, keep_ros: bool) -> dict[str, str]:
    """The environment for child processes: without another virtual environment, and without stray ROS settings."""
    dropped = FOREIGN_VARIABLES if keep_ros else FOREIGN_VARIABLES + WHEEL_VARIABLES
    return {name: value for name, value in os.environ.items() if name not in dropped}


def run(command: list[str], *, keep_ros: bool = False) -> None:
    """Run a command with its output appended to the log; raises CalledProcessError."""
    with LOG.open("a") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        log.flush()
        environment = child_environment(keep_ros=keep_ros)
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)


def say(text: str) -> None:
    """Write to the user."""
    sys.stdout.write(text)
    sys.stdout.flush()


@contextmanager
def shown(title: str) -> Iterator[None]:
    """Show a title while the body runs, counting seconds on a terminal, and the time it took after it."""
    started = time.monotonic()
    finished = threading.Event()

    def count() -> None:
        while not finished.wait(1.0):
            say(f"\r{title} ... {time.monotonic() - started:.0f} s")

    say(f"{title} ...")
    counter = threading.Thread(target=count, daemon=True)
    if sys.stdout.isatty():
        counter.start()
    try:
        yield
    finally:
        finished.set()
        if counter.is_alive():
            counter.join()
    say(f"{chr(13) + title + ' ...' if sys.stdout.isatty() else ''} {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
