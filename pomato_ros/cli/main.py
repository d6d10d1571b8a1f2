"""The `pomato` command: finds a subcommand's module when it is asked for, so that `pomato --help` starts at once.

A subcommand is a function with typer options in a module of its own; an int that it returns is the exit status. Nothing
is imported here for a subcommand that was not named: `--help` needs neither torch nor rclpy.
"""

import difflib
import functools
import importlib
import importlib.metadata
import inspect
import logging
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pomato_ros.ros.quiet_start import end_quietly_when_interrupted

USAGE_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives.

    Attributes:
        target: `module:function`.
        help: one line for the overview.
        ros: a ROS 2 executable: it reads `sys.argv` itself, ROS arguments included.
        bare: values of options that may be given without one.
        subcommands: further targets by the word that follows; ``target`` where none does.
    """

    target: str
    help: str
    ros: bool = False
    bare: Mapping[str, str] = field(default_factory=dict)
    subcommands: Mapping[str, str] = field(default_factory=dict)


COMMANDS = {
    "demo": Command(
        "pomato_ros.cli.demo:demo", "run publisher, node and recorder on the sample clip or a video of yours"
    ),
    "doctor": Command(
        "pomato_ros.cli.doctor:run_doctor", "what is installed, what is missing, and the command that mends it"
    ),
    "node": Command("pomato_ros.ros.node:main", "the ROS 2 node (takes --ros-args)", ros=True),
    "frame-publisher": Command(
        "pomato_ros.ros.frame_publisher:main", "publish a video, a folder or a camera as ROS 2 images", ros=True
    ),
    "recorder": Command("pomato_ros.ros.recorder:main", "record the node's outputs to MCAP", ros=True),
    "layout": Command("pomato_ros.cli.layout:layout", "Foxglove's or RViz's layout for a node of another name"),
    "world": Command(
        "pomato_ros.cli.world:world", "render scenes with exact truth", bare={"--preview": "out/world.png"}
    ),
    "train": Command("pomato_ros.cli.train:train", "train a network on rendered scenes"),
    "evaluate": Command(
        "pomato_ros.cli.evaluate.weights:evaluate_weights",
        "measure against truth: weights (the default), truth, oracle, network, ablation, recorded, rgbd, stereo, "
        "tracks",
        subcommands={
            "weights": "pomato_ros.cli.evaluate.weights:evaluate_weights",
            "truth": "pomato_ros.cli.evaluate.weights:evaluate_truth",
            "oracle": "pomato_ros.cli.evaluate.oracle:evaluate_oracle",
            "network": "pomato_ros.cli.evaluate.oracle:evaluate_network",
            "ablation": "pomato_ros.cli.evaluate.oracle:evaluate_ablation",
            "recorded": "pomato_ros.cli.evaluate.recorded:evaluate_recordings",
            "rgbd": "pomato_ros.cli.evaluate.sensors:evaluate_rgbd",
            "stereo": "pomato_ros.cli.evaluate.sensors:evaluate_stereo",
            "tracks": "pomato_ros.cli.evaluate.tracks:evaluate_tracks",
        },
    ),
    "run": Command(
        "pomato_ros.cli.run:run", "a recording, bag, video or folder through the engine, results into a folder"
    ),
    "reconstruct": Command(
        "pomato_ros.cli.reconstruct:reconstruct", "trajectory, static map and web page of a whole video or recording"
    ),
    "batch": Command("pomato_ros.cli.batch:batch", "many recordings on workers, as Parquet and MCAP with an index"),
    "label": Command("pomato_ros.cli.label:label", "masks, depth, tracks and poses of recordings as data sets"),
    "fleet": Command("pomato_ros.cli.fleet:fleet", "simulate a fleet's batch run: makespan, cost, utilisation"),
    "bench": Command("pomato_ros.cli.bench:bench", "time and memory of a step on this machine"),
    "parity": Command("pomato_ros.cli.parity:parity", "compare with stored reference arrays"),
    "convert": Command(
        "pomato_ros.cli.convert:convert", "an official weights file as one of ours, with hash, config and licence"
    ),
    "export": Command("pomato_ros.cli.export:export", "the network as ONNX graphs, checked with onnxruntime"),
}


class CommandError(RuntimeError):
    """A subcommand that cannot be started; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        arguments: the command line after `pomato`; None takes it from `sys.argv`.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(overview())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"pomato_ros {version()}\n")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Threads of the network that spin while they wait for each other take tens of times longer on a busy processor;
    # read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return run(words[0], words[1:])
    except CommandError as error:
        sys.stderr.write(f"pomato: {error}\n")
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def version() -> str:
    """The version of the installed package, else of package.xml beside the sources or in the share folder."""
    try:
        return importlib.metadata.version("pomato_ros")
    except importlib.metadata.PackageNotFoundError:
        pass
    prefixes = [Path(prefix) / "share" / "pomato_ros" for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(":")]
    for folder in (Path(__file__).resolve().parents[2], *prefixes):
        if (folder / "package.xml").is_file():
            return ElementTree.parse(folder / "package.xml").getroot().findtext("version") or "unknown"
    return "unknown"


def overview() -> str:
    """The help text."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: pomato COMMAND [OPTIONS]",
            "       pomato COMMAND --help",
            "       pomato --version",
            "",
            "Commands:",
            *lines,
            "",
        ]
    )


def run(name: str, arguments: list[str]) -> int:
    """Load the named subcommand and run it; returns its exit status."""
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        raise CommandError(
            f"unknown command '{name}'" + (f"; did you mean '{close[0]}'?" if close else "; see pomato --help")
        )
    command = COMMANDS[name]
    target = command.target
    if command.subcommands and arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(
            f"pomato {name} {{{','.join(command.subcommands)}}} [OPTIONS]; without a word the first one:\n"
        )
    if command.subcommands and arguments and not arguments[0].startswith("-"):
        word, *arguments = arguments
        if word not in command.subcommands:
            raise CommandError(f"unknown '{name} {word}'; known: {', '.join(command.subcommands)}")
        name, target = f"{name} {word}", command.subcommands[word]
    if command.ros:
        end_quietly_when_interrupted()
    function = load(name, target)
    if command.ros:
        return run_ros(name, function, arguments)
    return run_typer(name, function, with_bare_values(arguments, command.bare))


def with_bare_values(arguments: list[str], bare: Mapping[str, str]) -> list[str]:
    """The arguments with a value behind each option of ``bare`` that came without one."""
    completed: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=False):
        completed.append(argument)
        if argument in bare and following.startswith("-"):
            completed.append(bare[argument])
    return completed


def load(name: str, target: str) -> Callable[..., Any]:
    """Import `module:function`."""
    module_name, attribute = target.split(":")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name == module_name:
            raise CommandError(f"'{name}' is not part of this build: there is no module {module_name}") from error
        raise CommandError(
            f"'{name}' needs the module {error.name}, which is not installed; run: make doctor"
        ) from error
    if not callable(function):
        raise CommandError(f"'{name}': {target} is not a function")
    return function


def run_ros(name: str, function: Callable[[], int | None], arguments: list[str]) -> int:
    """Run a ROS 2 executable, which reads its arguments from `sys.argv`."""
    sys.argv = [f"pomato {name}", *arguments]
    return function() or 0


def run_typer(name: str, function: Callable[..., int | None], arguments: list[str]) -> int:
    """Parse the arguments by the function's signature and call it."""
    import typer

    @functools.wraps(function)
    def exit_with_result(*args: Any, **kwargs: Any) -> None:
        raise typer.Exit(function(*args, **kwargs) or 0)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=inspect.cleandoc(function.__doc__ or "").split("\n\n")[0])(exit_with_result)
    try:
        app(args=arguments, prog_name=f"pomato {name}")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
