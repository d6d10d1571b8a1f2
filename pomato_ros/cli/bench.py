"""`pomato bench`: time and memory of a step on this machine."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from rich.console import Console

from pomato_ros.cli.bench_picture import draw_steps
from pomato_ros.cli.results import conclude, machine_name
from pomato_ros.config import NETWORK_PRESETS, PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.bench import sensor_scene
from pomato_ros.evaluation.bench.report import run_table, step_table
from pomato_ros.evaluation.bench.scene import (
    SIZE_WH,
    TRACKS,
    bench_clip,
    run_on_one_core,
    scene_table,
    summarise_scene,
)
from pomato_ros.evaluation.bench.steps import (
    Replay,
    SteadyRun,
    matrix_gflops,
    replay,
    rss_mib,
    run_steady,
    summarise_bench,
)
from pomato_ros.evaluation.bench.twins import compare_twins, count_arithmetic, summarise_twins, twin_table
from pomato_ros.evaluation.report import FlatValue, plain
from pomato_ros.ros.frame_source import open_source, read_camera_file
from pomato_ros.ros.settling import settle, unsettle
from pomato_ros.sources.dust3r.checkpoint import Checkpoint
from pomato_ros.sources.dust3r.family import make_network
from pomato_ros.sources.dust3r.pomato_source import check_window
from pomato_ros.sources.dust3r.predictor import DTYPES, Predictor
from pomato_ros.sources.dust3r.trunk import Trunk, initialise
from pomato_ros.structures import Frame, Intrinsics, SceneEstimate
from pomato_ros.training.config import NANO_RECIPE

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "room"
FOLDER_RATE_HZ = 15.0
MOST_FRAMES = 150  # of a long video
TABLE_WIDTH = 150
DEFAULT_SIZE = "{}x{}".format(*NANO_RECIPE.shapes[0].size_wh)
Convert = Callable[[SceneEstimate], None]


def bench(
    weights: Annotated[Path | None, typer.Option(help="Weights file; without it the bundled ones.")] = None,
    video: Annotated[Path, typer.Option(help="Video or folder of images; without it the bundled clip.")] = SAMPLE,
    steps: Annotated[int, typer.Option(min=1, help="Steps to time.")] = 48,
    image_size: Annotated[int, typer.Option(min=0, help="Long side of the network's input; 0: as trained.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the network; 0: as num_threads.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Time the network alone beside its slow twin, and compare their answers.")
    ] = False,
    scene: Annotated[
        bool,
        typer.Option(
            "--scene",
            help=f"Time the scene layer alone on one core, part by part: {SIZE_WH[0]}x{SIZE_WH[1]}, {TRACKS} tracks.",
        ),
    ] = False,
    backend: Annotated[
        str, typer.Option(help="With --scene: rgbd times a whole step over a 640x480 depth camera instead.")
    ] = "",
    preset: Annotated[
        str, typer.Option(help="With --check: random weights of this network preset in place of trained ones.")
    ] = "",
    size: Annotated[
        str, typer.Option(help="With --check: the network's input, WIDTHxHEIGHT in whole patches.")
    ] = DEFAULT_SIZE,
    mode: Annotated[str, typer.Option(help="anchored or rolling.")] = PomatoConfig().window.mode,
    window: Annotated[
        int, typer.Option(min=2, help="Frames that the network sees together, as window_size.")
    ] = PomatoConfig().window.window_size,
    hop: Annotated[int, typer.Option(min=1, help="Frames that the network takes at once, as window_hop.")] = 1,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = PomatoConfig().model.precision,
    twin_steps: Annotated[int, typer.Option(min=1, help="With --check: steps that the slow twin repeats.")] = 4,
    picture: Annotated[Path | None, typer.Option(help="PNG of every step as a bar of its stages.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for the result under this machine's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one flat JSON object as the last line.")] = False,
) -> int:
    """Time the engine on a clip: step by step, then in real time where frames that come too fast are passed over."""
    console = Console()
    console = console if console.is_terminal else Console(width=TABLE_WIDTH)
    values = {"checkpoint": str(weights or ""), "image_size": image_size, "num_threads": threads}
    values |= {"mode": mode, "window_size": window, "window_hop": hop, "precision": precision}
    try:
        config = PomatoConfig().with_values(values)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    if preset and not check:
        raise typer.BadParameter("--preset has random weights, which can only be timed; add --check")
    if backend not in ("", "rgbd") or (backend and not scene):
        raise typer.BadParameter("expected --scene --backend rgbd; the other backends are not timed by part")
    if backend:
        return run_sensor_bench(config, steps, save, as_json, console)
    if scene:
        return run_scene_bench(config, steps, save, as_json, console)
    if check:
        return run_check(config, preset, size, steps, twin_steps, save, as_json, console)
    try:
        frames = read_frames(video)
        steady, summary = measure(config, frames, steps, console)
    except (ValueError, OSError) as error:
        console.print(f"[bold red]benchmark failed:[/] {error}", highlight=False)
        return 1
    machine = machine_name(str(summary["device"]))
    console.print(f"{machine}; {summary['device']}, {summary['precision']}, weights {summary['weights_sha256']}")
    console.print(step_table(steady))
    console.print(run_table(summary))
    if picture is not None:
        draw_steps(steady, f"{summary['preset']} at {summary['image_size_px']} px on {machine}", picture)
        console.print(f"wrote {picture}", highlight=False)
    conclude("bench", summary, save, as_json, console)
    return 0


def run_check(
    config: PomatoConfig,
    preset: str,
    size: str,
    steps: int,
    twin_steps: int,
    save: Path | None,
    as_json: bool,
    console: Console,
) -> int:
    """The network beside its slow twin on frames of noise."""
    empty_mib = rss_mib()
    try:
        fast = Predictor.from_options(config.model) if not preset else random_predictor(config, preset)
        slow = Predictor(fast.checkpoint, fast.device, fast.precision, reuse=False)
        size_wh = parse_size(size)
        check_window(config.window.window_size, fast.checkpoint.network.config.temporal_length)
        with console.status("counting"):
            arithmetic = count_arithmetic(fast.checkpoint.network.config, config.window, size_wh)
        with console.status("timing"):
            gflops = matrix_gflops(fast.device, DTYPES[fast.precision])
            timed = compare_twins(fast, slow, config.window, size_wh, steps, min(steps, twin_steps))
    except (ValueError, OSError) as error:
        console.print(f"[bold red]benchmark failed:[/] {error}", highlight=False)
        return 1
    summary = summarise_twins(timed, arithmetic, gflops, empty_mib) | {
        "preset": preset or ("nano" if not config.model.checkpoint else Path(config.model.checkpoint).stem),
        "image_size": f"{size_wh[0]}x{size_wh[1]}",
        "window_size": config.window.window_size,
        "overlap": config.window.overlap,
        "mode": config.window.mode,
        "window_hop": config.window.window_hop,
        "precision": fast.precision,
        "device": str(fast.device),
    }
    console.print(
        f"{machine_name(str(fast.device))}; {summary['preset']}, {summary['image_size']}, {summary['mode']}, "
        f"{fast.precision}"
    )
    console.print(twin_table(summary))
    conclude(f"check-{summary['preset']}", summary, save, as_json, console)
    return 0


def run_scene_bench(config: PomatoConfig, steps: int, save: Path | None, as_json: bool, console: Console) -> int:
    """The scene layer on a rendered room, its predictions made beforehand."""
    config = config.with_values({"max_tracks": TRACKS})
    with console.status("rendering and timing"):
        summary = summarise_scene(run_on_one_core(config, steps), SIZE_WH)
    console.print(machine_name())
    console.print(scene_table(summary))
    conclude("scene", summary | {"mode": config.window.mode}, save, as_json, console)
    return 0


def run_sensor_bench(config: PomatoConfig, steps: int, save: Path | None, as_json: bool, console: Console) -> int:
    """Preparation, source and estimator over a simulated depth camera in a rendered room; threads as in the node."""
    with console.status("rendering and timing"):
        clip = bench_clip(sensor_scene.WARM_UP + steps, sensor_scene.SIZE_WH)
        run = sensor_scene.run_sensor_scene(clip, config.with_values({"backend": "rgbd"}))
    summary = sensor_scene.summarise_sensor_scene(run, sensor_scene.SIZE_WH)
    console.print(machine_name())
    console.print(sensor_scene.sensor_scene_table(summary))
    conclude("scene-rgbd", summary, save, as_json, console)
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """``512x288`` -> (512, 288).

    Raises:
        ValueError: it is not of this form.
    """
    width, cross, height = text.partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise ValueError(f"expected a size like 512x288, got '{text}'")
    return int(width), int(height)


def random_predictor(config: PomatoConfig, preset: str) -> Predictor:
    """A network of a preset with weights that nobody trained: time and arithmetic do not depend on them.

    Raises:
        ValueError: there is no such preset.
    """
    if preset not in NETWORK_PRESETS:
        raise ValueError(f"unknown preset '{preset}'; known: {', '.join(NETWORK_PRESETS)}")
    network = make_network(NETWORK_PRESETS[preset]).eval()
    initialise(network, torch.Generator().manual_seed(0))
    scramble_motion(network)
    checkpoint = Checkpoint(network=network, path=Path(preset), sha256="", image_size_px=0, metadata={})
    return Predictor.of_checkpoint(checkpoint, config.model)


@torch.no_grad()
def scramble_motion(network: Trunk) -> None:
    """Motion modules start as the identity; for a comparison they must do something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if name.endswith("temporal_transformer.proj_out.weight"):
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)


def measure(
    config: PomatoConfig, frames: Sequence[Frame], steps: int, console: Console
) -> tuple[SteadyRun, dict[str, FlatValue]]:
    """Both runs of one engine; the summary also says what was measured, and how fast the machine was meanwhile."""
    engine = Engine(config)
    engine.warm_up((frames[0].image_rgb.shape[1], frames[0].image_rgb.shape[0]))
    settle()
    warm_up = config.window.window_size * config.window.window_stride
    with console.status("steps one after the other"):
        gflops = matrix_gflops()
        steady = run_steady(engine, frames, steps, warm_up, message_converter(config))
    with console.status("in real time"):
        replayed: Replay = replay(engine, frames, message_converter(config))
    unsettle()
    summary = summarise_bench(steady, replayed)
    facts = engine.describe()
    return steady, {
        **summary,
        "matrix_gflops": plain(gflops),
        "step_gflop_equivalent": plain(gflops * float(summary["step_ms_p50"] or 0.0) / 1e3),
        "preset": "nano" if not config.model.checkpoint else Path(config.model.checkpoint).stem,
        "image_size_px": int(facts["image_size_px"]),
        "window_size": config.window.window_size,
        "mode": config.window.mode,
        "window_hop": config.window.window_hop,
        "precision": str(facts["precision"]),
        "device": str(facts["device"]),
        "weights_sha256": str(facts["sha256"]),
    }


def message_converter(config: PomatoConfig) -> Convert | None:
    """What makes every message of a scene as the node does, odometry and history included; None without ROS."""
    if importlib.util.find_spec("rclpy") is None or importlib.util.find_spec("pomato_ros.msg") is None:
        return None
    from pomato_ros.ros.frames import OdometryFrames
    from pomato_ros.ros.history import History
    from pomato_ros.ros.perception import StepResult
    from pomato_ros.ros.status import NodeStatus
    from pomato_ros.ros.step_messages import StepMessages
    from pomato_ros.ros.topics import SCENE_OUTPUTS

    frames = OdometryFrames(np.eye(4))
    history = History(config.output.path_max, config.output.trail_length)
    status = NodeStatus()

    def convert(scene: SceneEstimate) -> None:
        odometry = frames.update(scene.stamp_ns, scene.world_from_camera, scene.pose_covariance)
        result = StepResult(scene, "camera", odometry, frames.odom_from_world, received_ns=0, epoch=0, timeline=0)
        history.add(result)
        messages = StepMessages(result, config, history, status)
        for topic in SCENE_OUTPUTS:
            messages.build(topic)

    return convert


def read_frames(video: Path) -> list[Frame]:
    """The first frames of a video or folder, calibrated where a camera_info.yaml lies beside it.

    Raises:
        SourceError: nothing is there, or it holds no frames.
    """
    source = open_source(str(video), FOLDER_RATE_HZ)
    intrinsics = None if source.calibration_file is None else read_intrinsics(source.calibration_file)
    frames = []
    for item, _ in zip(source.frames(), range(MOST_FRAMES), strict=False):
        rgb = np.asarray(cv2.cvtColor(item.image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
        frames.append(Frame(item.offset_ns or 0, rgb, intrinsics))
    return frames


def read_intrinsics(path: Path) -> Intrinsics:
    """The pinhole camera of a calibration file; distortion is left to the node."""
    camera = read_camera_file(path)
    fx, _, cx, _, fy, cy = camera.camera_matrix[:6]
    return Intrinsics(fx, fy, cx, cy, camera.width_px, camera.height_px)
