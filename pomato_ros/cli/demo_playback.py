"""Plays a clip through the node: recorder, node and frame publisher as processes on a graph of their own."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pomato_ros.cli.processes import ChildProcess
from pomato_ros.errors import PomatoError
from pomato_ros.ros.launch_settings import PROFILE_VARIABLES

PACKAGE = Path(__file__).resolve().parent.parent
NODE_NAME = "/pomato"
RECORDING = "recording.mcap"
LISTENERS = 2  # the node and the recorder hear the images
START_TIMEOUT_S = 180.0
QUIET_S = 4.0  # no new step for this long after the last frame: the node is done
LONGEST_DRAIN_S = 90.0
POLL_S = 0.2


class DemoError(PomatoError, RuntimeError):
    """The demonstration did not come to its end; the message says where it stopped."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What is played, how, and where its results go."""

    video: Path
    out: Path
    rate_hz: float
    max_frames: int
    max_side_px: int
    node_command: tuple[str, ...]
    domain_id: int
    checkpoint: str = ""  # these two for the engine alone, without ROS
    params_file: Path | None = None


def play(plan: DemoPlan, console: Console) -> int:
    """Run the three processes until the clip is over and the node is done with it; leaves the recording.

    The clip is played at the plan's rate with the stamps of its recording; /clock runs at that pace.

    Returns:
        How many frames of the clip could not be read.

    Raises:
        DemoError: A process ended before its time.
    """
    with started_processes(plan) as start, progress_bars(console) as progress:
        recorder = start("recorder", recorder_command(plan))
        node = start("node", (*plan.node_command, "-p", "use_sim_time:=true"))
        watch = Watch(progress, recorder, node)
        watch.until_node_is_heard()
        publisher = start("frame_publisher", publisher_command(plan))
        watch.until_clip_is_over(publisher)
        watch.until_node_is_done()
    return int(publisher.facts.get("skipped", 0))


@contextmanager
def started_processes(plan: DemoPlan) -> Iterator[Callable[[str, Sequence[str]], ChildProcess]]:
    """Gives a function that starts a process; at the end all are interrupted, the first one last."""
    environment = child_environment(plan.domain_id)
    children: list[ChildProcess] = []

    def start(name: str, command: Sequence[str]) -> ChildProcess:
        children.append(ChildProcess(name, command, environment, plan.out))
        return children[-1]

    try:
        yield start
    finally:
        for child in reversed(children):
            child.interrupt()
            child.wait_until_ended()


def child_environment(domain_id: int) -> dict[str, str]:
    """An environment in which nobody else is heard, with room for large messages in shared memory."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment["PYTHONUNBUFFERED"] = "1"
    # Threads of the network that spin while they wait for each other take tens of times longer on a busy processor.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    profile = fastdds_profile()
    if profile is not None:
        for variable in PROFILE_VARIABLES:
            environment.setdefault(variable, str(profile))
    return environment


def fastdds_profile() -> Path | None:
    """config/fastdds.xml in the source tree or the installed share folder."""
    candidates = [PACKAGE.parent / "config" / "fastdds.xml"]
    candidates.append(Path(sys.prefix) / "share" / "pomato_ros" / "config" / "fastdds.xml")
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        candidates.append(Path(prefix) / "share" / "pomato_ros" / "config" / "fastdds.xml")
    return next((path for path in candidates if path.is_file()), None)


def node_command(checkpoint: str, params_file: Path | None) -> tuple[str, ...]:
    """The command that runs the node with the user's choices."""
    command: tuple[str, ...] = (sys.executable, "-m", "pomato_ros.ros.node", "--exit-on-failure", "--ros-args")
    if params_file is not None:
        command += ("--params-file", str(params_file))
    if checkpoint:
        command += ("-p", f"checkpoint:={json.dumps(checkpoint)}")
    return command


def recorder_command(plan: DemoPlan) -> list[str]:
    """The command that records everything."""
    target = str(plan.out / RECORDING)
    return [sys.executable, "-m", "pomato_ros.ros.recorder", "--progress", "--out", target, "--node", NODE_NAME]


def publisher_command(plan: DemoPlan) -> list[str]:
    """The command that plays the clip."""
    parameters = {
        "video": str(plan.video.absolute()),
        "rate": float(plan.rate_hz),
        "publish_clock": True,
        "max_frames": plan.max_frames,
        "max_side_px": plan.max_side_px,
        "wait_for_subscribers": LISTENERS,
        "wait_timeout": START_TIMEOUT_S,
    }
    command = [sys.executable, "-m", "pomato_ros.ros.frame_publisher", "--progress", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={json.dumps(value)}"]
    return command


def progress_bars(console: Console) -> Progress:
    """Bars with counts and time."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


class Watch:
    """Follows the processes by what they report, and shows it."""

    def __init__(self, progress: Progress, recorder: ChildProcess, node: ChildProcess) -> None:
        """Show the node's start first."""
        self._progress = progress
        self._recorder = recorder
        self._node = node
        self._frames_bar = progress.add_task("loading the model", total=None)
        self._steps_bar = progress.add_task("steps", total=None)
        self._step_clock = StepClock()

    def until_node_is_heard(self) -> None:
        """Wait until the recorder has found every output of the node, so that it misses no step."""
        give_up_s = time.monotonic() + START_TIMEOUT_S

        def node_is_heard() -> bool:
            if time.monotonic() > give_up_s:
                raise DemoError(
                    f"the node offered no outputs within {START_TIMEOUT_S:.0f} s:\n{self._node.last_words()}"
                )
            return bool(self._recorder.facts.get("hears_node"))

        self._poll(node_is_heard)

    def until_clip_is_over(self, publisher: ChildProcess) -> None:
        """Wait until the last frame was published."""

        def clip_is_over() -> bool:
            published, total = publisher.facts.get("published"), publisher.facts.get("total")
            if published:
                self._progress.update(
                    self._frames_bar, description="frames published", completed=published, total=total
                )
            return publisher.exit_code is not None

        self._poll(clip_is_over)
        if publisher.exit_code != 0:
            raise DemoError(f"the frame publisher ended with code {publisher.exit_code}:\n{publisher.last_words()}")

    def until_node_is_done(self) -> None:
        """Wait until no step has come for a while."""
        give_up_s = time.monotonic() + LONGEST_DRAIN_S
        self._poll(lambda: self._step_clock.is_quiet() or time.monotonic() > give_up_s)

    def _poll(self, condition: Callable[[], bool]) -> None:
        while not condition():
            for child in (self._recorder, self._node):
                if child.exit_code is not None:
                    raise DemoError(f"the {child.name} ended with code {child.exit_code}:\n{child.last_words()}")
            steps = self._recorder.facts.get("steps", 0)
            self._step_clock.see(steps)
            self._progress.update(self._steps_bar, completed=steps)
            time.sleep(POLL_S)


class StepClock:
    """Knows how long the node takes for a step, from the times at which steps were heard."""

    def __init__(self) -> None:
        """Start with no step heard."""
        self._steps = 0
        self._changed_s = time.monotonic()
        self._longest_gap_s = 0.0

    def see(self, steps: int) -> None:
        """Note how many steps there are now."""
        now_s = time.monotonic()
        if steps != self._steps:
            self._longest_gap_s = max(self._longest_gap_s, now_s - self._changed_s if self._steps else 0.0)
            self._steps, self._changed_s = steps, now_s

    def is_quiet(self) -> bool:
        """Whether the node has been silent for much longer than it needs for a step."""
        if not self._steps:
            return False
        return time.monotonic() - self._changed_s > max(QUIET_S, 2.0 * self._longest_gap_s)
