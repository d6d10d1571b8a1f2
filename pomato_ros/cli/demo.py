"""``pomato demo``: frame publisher, node and recorder as real processes on a real graph, and what came of it."""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pomato_ros.cli.demo_playback import NODE_NAME, PACKAGE, RECORDING, DemoError, DemoPlan, node_command, play
from pomato_ros.ros.launch_settings import expanded

SAMPLE = PACKAGE / "samples" / "room"
PICTURE, SUMMARY = "scene.png", "summary.json"
NOT_IN_TABLE = ("topics", "latency_is")
NEEDS_TRUTH = ("depth_absrel", "ate_over_path", "mask_iou")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/demo"),
    video: Annotated[
        Path | None, typer.Option(help="Video file or folder of images; without it the bundled clip.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Images published a second; slow enough for the machine.")] = 4.0,
    max_frames: Annotated[int, typer.Option(help="Stop after this many images; 0 plays all.")] = 150,
    max_side_px: Annotated[int, typer.Option(help="Reduce larger images to this long side.")] = 960,
    checkpoint: Annotated[str, typer.Option(help="Weights; without it the bundled ones.")] = "",
    params_file: Annotated[
        Path | None, typer.Option(help="ROS parameters for the node, as config/pomato.yaml.")
    ] = None,
    without_ros: Annotated[
        bool, typer.Option("--without-ros", help="The engine alone: no messages, no recording.")
    ] = False,
) -> int:
    """Play a clip through the node and leave an MCAP recording, a picture and a summary; 1 if an output is missing.

    Without ROS 2 the engine alone runs on the clip and leaves picture and summary.
    """
    console = Console()
    plan = DemoPlan(
        video=SAMPLE if video is None else expanded(str(video)),
        out=expanded(str(out)),
        rate_hz=rate,
        max_frames=max_frames,
        max_side_px=max_side_px,
        node_command=node_command(checkpoint, params_file),
        domain_id=1 + os.getpid() % 100,
        checkpoint=checkpoint,
        params_file=None if params_file is None else expanded(str(params_file)),
    )
    missing_part = missing_for_ros()
    if missing_part and not without_ros:
        console.print(f"{missing_part}: the engine alone runs, without messages and recording", highlight=False)
    try:
        summary = run_alone(plan, console) if without_ros or missing_part else run_demo(plan, console)
    except DemoError as error:
        console.print(f"demo failed: {error}", style="bold red", highlight=False, markup=False)
        return 1
    missing = missing_outputs(plan.out, summary)
    show(console, plan.out, summary, missing)
    return 1 if missing else 0


def run_demo(plan: DemoPlan, console: Console) -> dict[str, Any]:
    """Play, record, and write the results; the summary.

    Raises:
        DemoError: The clip is missing, or a process ended early.
    """
    if not plan.video.exists():
        raise DemoError(f"no video or folder at {plan.video}")
    make_room(plan.out)
    skipped = play(plan, console)
    with console.status("reading the recording, drawing the picture"):
        return write_results(plan, skipped)


def missing_for_ros() -> str:
    """What keeps the demonstration from real processes on a graph, or nothing."""
    missing = [name for name in ("rclpy", "pomato_ros.msg") if not is_there(name)]
    return f"{' and '.join(missing)} cannot be imported" if missing else ""


def is_there(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def run_alone(plan: DemoPlan, console: Console) -> dict[str, Any]:
    """Run the engine on the clip and write the results; the summary.

    Raises:
        DemoError: The clip, its calibration or the weights cannot be used.
    """
    from pomato_ros.cli.demo_picture import draw_scene  # torch and matplotlib are slow to import
    from pomato_ros.cli.demo_without_ros import run_engine
    from pomato_ros.evaluation.recorded_run import load_truth, summarise

    make_room(plan.out)
    run, showcase, skipped = run_engine(plan, console)
    truth = load_truth(plan.video) if plan.video.is_dir() else None
    summary = {**summarise(run, truth), "frames_unreadable": skipped, "latency_is": "one step of the engine"}
    (plan.out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if showcase is not None:
        draw_scene(run, showcase, truth, summary, plan.out / PICTURE)
    return summary


def make_room(out: Path) -> None:
    """Make the folder and remove what an earlier demonstration left in it.

    Raises:
        DemoError: It cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in (RECORDING, PICTURE, SUMMARY):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(f"--out {out}: expected a folder that can be written: {error.strerror}") from error


def write_results(plan: DemoPlan, skipped: int) -> dict[str, Any]:
    """Read the recording back; write the summary and the picture."""
    from pomato_ros.cli.demo_picture import draw_scene  # matplotlib and ROS are slow to import
    from pomato_ros.evaluation.recorded_run import load_truth, summarise
    from pomato_ros.ros.run_reader import read_run, read_showcase

    recording = plan.out / RECORDING
    run = read_run(recording, NODE_NAME)
    truth = load_truth(plan.video) if plan.video.is_dir() else None
    summary = {**summarise(run, truth), "frames_unreadable": skipped}
    (plan.out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if run.steps:
        draw_scene(run, read_showcase(recording, NODE_NAME, run), truth, summary, plan.out / PICTURE)
    return summary


def missing_outputs(out: Path, summary: Mapping[str, Any]) -> list[str]:
    """Topics without a message and files that were not written."""
    silent = [name for name, count in summary["topics"].items() if count == 0]
    files = (RECORDING, PICTURE, SUMMARY) if summary["topics"] else (PICTURE, SUMMARY)  # no recording without topics
    return [*silent, *(name for name in files if not (out / name).is_file())]


def missing_sentence(missing: Sequence[str]) -> str:
    """What is missing, and what that means where it is the camera's pose."""
    sentence = f"missing: {', '.join(missing)}"
    if "/tf" in missing:
        sentence += " (no pose was ever found: the node was lost throughout, or had not enough frames to start)"
    return sentence


def show(console: Console, out: Path, summary: Mapping[str, Any], missing: Sequence[str]) -> None:
    """The outcome as a table, and where to look."""
    table = Table(title="pomato demo", show_header=False)
    for name, value in summary.items():
        if name not in NOT_IN_TABLE and not (name in NEEDS_TRUTH and value is None):
            table.add_row(name, value_text(value))
    if all(summary.get(name) is None for name in NEEDS_TRUTH):
        table.add_row("errors", f"not known: {', '.join(NEEDS_TRUTH)} need the truth of a rendered clip (truth.npz)")
    heard = sum(count > 0 for count in summary["topics"].values())
    if summary["topics"]:
        table.add_row("topics", f"{heard} of {len(summary['topics'])} with messages")
    console.print(table)
    for name in (PICTURE, RECORDING, SUMMARY):
        if (out / name).is_file():
            console.print(f"  {out / name}", highlight=False, soft_wrap=True)
    if summary["topics"]:
        console.print(f"  open {RECORDING} in Foxglove (layouts/pomato.json)", highlight=False, soft_wrap=True)
    if summary.get("frames_unreadable"):
        unreadable = (
            f"{summary['frames_unreadable']} frames could not be read; {out / 'frame_publisher.log'} names them"
        )
        console.print(unreadable, style="bold yellow", highlight=False, soft_wrap=True)
    if missing:
        console.print(missing_sentence(missing), style="bold red", highlight=False, soft_wrap=True)


def value_text(value: Any) -> str:
    """A figure for people."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
