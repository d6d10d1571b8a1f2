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
) -> int:
    """Play a clip through the node and leave an MCAP recording, a picture and a summary; 1 if an output is missing."""
    console = Console()
    plan = DemoPlan(
        video=SAMPLE if video is None else expanded(str(video)),
        out=expanded(str(out)),
        rate_hz=rate,
        max_frames=max_frames,
        max_side_px=max_side_px,
        node_command=node_command(checkpoint, params_file),
        domain_id=1 + os.getpid() % 100,
    )
    try:
        summary = run_demo(plan, console)
    except DemoError as error:
        console.print(f"demo failed: {error}", style="bold red", highlight=False, markup=False)
        return 1
    missing = missing_outputs(plan.out, summary)
    show(console, plan.out, summary, missing)
    return 1 if missing else 0


def run_demo(plan: DemoPlan, console: Console) -> dict[str, Any]:
    """Play, record, and write the results; the summary.

    Raises:
        DemoError: ROS 2 or the clip is missing, or a process ended early.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise DemoError("ROS 2 cannot be imported; run: make demo, or source your ROS 2 first")
    if not plan.video.exists():
        raise DemoError(f"no video or folder at {plan.video}")
    make_room(plan.out)
    skipped = play(plan, console)
    with console.status("reading the recording, drawing the picture"):
        return write_results(plan, skipped)


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
    return [*silent, *(name for name in (RECORDING, PICTURE, SUMMARY) if not (out / name).is_file())]


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
    table.add_row("topics", f"{heard} of {len(summary['topics'])} with messages")
    console.print(table)
    for name in (PICTURE, RECORDING, SUMMARY):
        console.print(f"  {out / name}", highlight=False, soft_wrap=True)
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
