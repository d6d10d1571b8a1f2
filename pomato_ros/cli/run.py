"""`pomato run`: a recording, bag, video or folder through the engine, without ROS; everything it says into a folder."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from pomato_ros.cli.results import flat_line
from pomato_ros.cli.run_input import RunInput, open_input
from pomato_ros.cli.run_picture import draw_run
from pomato_ros.config import PomatoConfig
from pomato_ros.datasets.sensors.bag import Topics
from pomato_ros.engine import Engine
from pomato_ros.errors import PomatoError, UnusableFrame
from pomato_ros.evaluation.metrics.masks import count_mask
from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.evaluation.report import FlatValue, plain, ratio
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.geometry.rigid import invert
from pomato_ros.sinks.point_files import write_whole
from pomato_ros.sinks.scene_folder import SceneFolder, source_mask
from pomato_ros.structures import Frame, MaskArray, PoseArray, SceneEstimate, TrackingState

FEWEST_ALIGNED = 4  # poses; fewer fit anything
REASONS_KEPT = 3


@dataclass(slots=True)
class RunRecord:
    """What is kept of a run for its summary."""

    poses: list[PoseArray | None] = field(default_factory=list)  # one a frame of the input
    moving_shares: list[float] = field(default_factory=list)
    masks: list[tuple[int, MaskArray]] = field(default_factory=list)  # with the number of the frame, where truth is
    refused: Counter[str] = field(default_factory=Counter)
    picture: SceneEstimate | None = None  # the scene in which most moves
    seconds: float = 0.0  # of the engine alone


def run(
    source: Annotated[str, typer.Argument(help="Recording, bag, video file, or folder of images.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out/run"),
    backend: Annotated[
        str, typer.Option(help="auto: by what the recording has; else as the parameter backend.")
    ] = "auto",
    layout: Annotated[str, typer.Option(help="tum_rgbd, bonn, seven_scenes, kitti, euroc; auto: recognised.")] = "auto",
    frames: Annotated[int, typer.Option(min=0, help="Most frames; 0: all.")] = 0,
    rate: Annotated[float, typer.Option(min=0.01, help="Images a second of a folder without stamps.")] = 30.0,
    image_topic: Annotated[str, typer.Option(help="Colour image topic of a bag; empty: found.")] = "",
    depth_topic: Annotated[str, typer.Option(help="Depth image topic of a bag; empty: found.")] = "",
    right_topic: Annotated[str, typer.Option(help="Right image topic of a bag; empty: found.")] = "",
    disparity_offset: Annotated[float, typer.Option(help="True minus measured disparity of a KITTI pair, px.")] = 0.0,
    cloud_every: Annotated[int, typer.Option(min=0, help="A cloud file for every n-th scene; 0: none.")] = 10,
    parameter: Annotated[list[str] | None, typer.Option("--set", help="Any parameter as NAME=VALUE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as the last line.")] = False,
) -> int:
    """Run the engine over a recording and write trajectory.tum, summary.json, masks, clouds, tracks and a picture."""
    console = Console(stderr=as_json)
    try:
        topics = Topics(image_topic, depth_topic, right_topic)
        given = open_input(source, layout, rate, topics, disparity_offset, frames or None)
        first = next(given.frames)
        config = PomatoConfig().with_values(parsed(parameter or []) | {"backend": chosen_backend(backend, first)})
        summary = run_engine(Engine(config), given, first, out, cloud_every, console)
    except (PomatoError, ValueError, OSError, StopIteration) as error:
        console.print(f"[bold red]run failed:[/] {error or 'no frame in the input'}", highlight=False)
        return 1
    finally:
        if "given" in locals() and given.sequence is not None:
            given.sequence.close()
    console.print(f"results in {out}", highlight=False)
    if as_json:
        typer.echo(flat_line(summary))
    return 0


def chosen_backend(asked: str, first: Frame) -> str:
    """The backend asked for, or that of the sensors that the first frame has."""
    if asked != "auto":
        return asked
    if first.depth_m is not None:
        return "rgbd"
    return "stereo" if first.right_rgb is not None else PomatoConfig().model.backend


def parsed(settings: list[str]) -> dict[str, object]:
    """Options by name from NAME=VALUE; values as YAML writes them.

    Raises:
        ValueError: one has another form.
    """
    import yaml

    pairs = [setting.partition("=") for setting in settings]
    wrong = [setting for setting, (_, equals, _) in zip(settings, pairs, strict=True) if not equals]
    if wrong:
        raise ValueError(f"expected --set NAME=VALUE, got {', '.join(wrong)}")
    return {name: yaml.safe_load(value) for name, _, value in pairs}


def run_engine(
    engine: Engine, given: RunInput, first: Frame, out: Path, cloud_every: int, console: Console
) -> dict[str, FlatValue]:
    """Every frame through the engine into ``out``; the summary, which is written there too."""
    folder, record = SceneFolder(out, cloud_every), RunRecord()
    step(engine, first, given, folder, record)
    total = None if given.count is None else given.count - 1
    for frame in track(given.frames, "frames", total=total, console=console, disable=not console.is_terminal):
        step(engine, frame, given, folder, record)
    folder.close()
    poses, compared = all_poses(record), with_truth(record, given)
    summary = summarise(engine, given, record, compared)
    write_whole(out / "summary.json", (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    if record.picture is not None:
        truth = None if compared is None else compared[1]
        draw_run(record.picture, poses, truth, folder.map_vertices, summary, out / "scene.png")
    return summary


def step(engine: Engine, frame: Frame, given: RunInput, folder: SceneFolder, record: RunRecord) -> None:
    """One frame; one that cannot be used is counted with its reason."""
    started = time.perf_counter()
    record.poses.append(None)
    try:
        scene = engine.step(frame)
    except UnusableFrame as error:
        record.refused[str(error)] += 1
        return
    record.seconds += time.perf_counter() - started
    if scene is None:
        return
    folder.add(scene)
    record.moving_shares.append(float(scene.dynamic_mask.mean()))
    if record.picture is None or record.moving_shares[-1] >= max(record.moving_shares):
        record.picture = scene
    if scene.world_from_camera is not None and scene.state is not TrackingState.LOST:
        record.poses[-1] = scene.world_from_camera
    if given.sequence is not None and given.sequence.read_mask is not None:
        record.masks.append((len(record.poses) - 1, source_mask(scene)))


def all_poses(record: RunRecord) -> PoseArray:
    """(n, 4, 4) of the frames that have one."""
    return np.array([pose for pose in record.poses if pose is not None], np.float64).reshape(-1, 4, 4)


def with_truth(record: RunRecord, given: RunInput) -> tuple[PoseArray, PoseArray] | None:
    """Estimated and true poses (n, 4, 4) of the frames that have both, the true ones moved onto the others by SE(3)."""
    true = None if given.sequence is None else given.sequence.world_from_camera
    if true is None:
        return None
    both = [t for t, pose in enumerate(record.poses) if pose is not None and np.isfinite(true[t]).all()]
    if len(both) < FEWEST_ALIGNED:
        return None
    poses = np.array([record.poses[t] for t in both], np.float64)
    try:
        return poses, align_trajectory(true[both], poses, with_scale=False)
    except DegenerateAlignmentError:
        return poses, poses[0] @ invert(true[both[0]]) @ true[both]


def summarise(
    engine: Engine, given: RunInput, record: RunRecord, compared: tuple[PoseArray, PoseArray] | None
) -> dict[str, FlatValue]:
    """The flat summary; scores only where there is truth."""
    poses = all_poses(record)
    summary: dict[str, FlatValue] = {
        "source": given.name,
        "layout": given.layout,
        "backend": str(engine.describe().get("backend", "pomato")),
        "frames": len(record.poses),
        "frames_with_pose": len(poses),
        "frames_refused": sum(record.refused.values()),
        "refused_because": "; ".join(reason for reason, _ in record.refused.most_common(REASONS_KEPT)),
        "path_length_m": plain(path_length(poses) if len(poses) > 1 else 0.0),
        "moving_share": plain(float(np.mean(record.moving_shares))) if record.moving_shares else None,
        "rate_hz": plain(len(record.poses) / record.seconds) if record.seconds else None,
    }
    if compared is not None:
        ate_m = root_mean_square(absolute_errors(*compared))
        summary |= {"ate_m": plain(ate_m), "true_path_length_m": plain(path_length(compared[1]))}
    if record.masks and given.sequence is not None and given.sequence.read_mask is not None:
        true = np.stack([given.sequence.read_mask(t) for t, _ in record.masks])
        counts = count_mask(np.stack([mask for _, mask in record.masks]), true)
        summary["mask_iou"] = plain(ratio(counts.both, counts.either))
        summary["mask_false_positive"] = plain(ratio(counts.either - counts.moving, counts.total))
    return summary
