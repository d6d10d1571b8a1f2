"""The stream beside its slow twin in one run: how much faster, how different, how much arithmetic."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from itertools import count, groupby

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pomato_ros.config import NetworkConfig, WindowOptions
from pomato_ros.evaluation.bench.host_syncs import HostSyncWatch, count_cuda_syncs
from pomato_ros.evaluation.bench.steps import MIB, peak_rss_mib, percentiles, rss_mib
from pomato_ros.evaluation.report import FlatValue, plain, shown
from pomato_ros.pointmap_scene.pipeline import key_ns, record_pieces, wanted_together
from pomato_ros.pointmap_scene.reference import wanted_of
from pomato_ros.sources.dust3r.family import make_network
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.wiring import window_maps
from pomato_ros.structures import PreparedFrame, Window
from pomato_ros.window import RollingWindow

FRAME_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class TwinRun:
    """Times of steps with full windows, seconds; errors relative to the twin's largest value."""

    stream_seconds: tuple[float, ...]  # a new frame's share, where the network takes several at once
    twin_seconds: tuple[float, ...]
    max_rel_error: float
    period: int  # steps from one key to the next, or from one start of a hop with one to the next
    stream_peak_mib: float  # memory of the process before the twin's first step
    device_peak_mib: float | None = None  # of a GPU, likewise
    rss_growth_mib: float | None = None  # from the first timed step to the twin's first
    host_syncs: float | None = None  # on a GPU: times a step that the host waits for it, the final one apart


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Floating-point operations (a multiply-add is two) of one new frame, in units of 1e12."""

    stream_tflop: float  # mean over the frames from one key to the next
    stream_most_tflop: float  # of the dearest of these
    twin_tflop: float  # a full window
    host_syncs: int  # of a step of the stream: operations after which the host of a GPU would wait


def random_frames(size_wh: tuple[int, int]) -> Iterator[PreparedFrame]:
    """Frames of noise, one after the other for ever."""
    width, height = size_wh
    rng = np.random.default_rng(0)
    for number in count():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        yield PreparedFrame(number * FRAME_NS, pixels, None, np.eye(3), size_wh)


def wanted_by_scene(window: Window) -> Wanted:
    """What the scene reads of this window: the pair of the newest frame, in rolling mode of one that is not the key."""
    newest = len(window.frames) - 1
    return wanted_of(window, (newest if window.key != newest else 0,))


def next_hop(window: RollingWindow, frames: Iterator[PreparedFrame], hop: int) -> list[tuple[Window, Wanted]]:
    """Push ``hop`` frames; the windows to evaluate for them, one for each key, with what the scene reads of each."""
    pushed = [window.push(next(frames)) for _ in range(hop)]
    groups = [list(group) for _, group in groupby(pushed, key=key_ns)]
    return [(group[-1], wanted_together([wanted_by_scene(now) for now in group], stride=1)) for group in groups]


def compare_twins(
    fast: Predictor, slow: Predictor, options: WindowOptions, size_wh: tuple[int, int], steps: int, twin_steps: int
) -> TwinRun:
    """Time ``steps`` full-window steps of ``fast``, and the last ``twin_steps`` of these with ``slow`` as well.

    Neither is timed cold: ``fast`` has recorded all that it records, as a node has after `configure`, and has filled a
    window; the first window of ``slow`` is evaluated twice, since it records nothing.

    Args:
        fast: a predictor that reuses.
        slow: one of the same weights that does not.
        options: window size, overlap and mode.
        size_wh: of the network's input, px, whole patches.
        steps: timed steps; whole periods of ``window_size - overlap`` give every kind of step its due.
        twin_steps: at most ``steps``.
    """
    frames = random_frames(size_wh)
    record_pieces(fast, options, next(frames))
    window = RollingWindow(options.window_size, options.overlap, options.mode)
    stream_seconds: list[float] = []
    twin_seconds: list[float] = []
    errors = [0.0]
    stream_peak_mib, device_peak_mib = peak_rss_mib(), None
    rss_growth_mib = rss_begun_mib = 0.0
    hop = options.window_hop
    for number in range(0, options.window_size + steps, hop):
        batch = next_hop(window, frames, hop)
        started = time.perf_counter()
        answers = [fast.predict(now, wanted) for now, wanted in batch]
        took = time.perf_counter() - started
        if number < options.window_size:
            continue
        if not stream_seconds:
            rss_begun_mib = rss_mib()
        stream_seconds.append(took / hop)
        if not twin_seconds:
            rss_growth_mib = rss_mib() - rss_begun_mib
            stream_peak_mib, device_peak_mib = peak_rss_mib(), peak_device_mib(fast.device)
        if number >= options.window_size + steps - twin_steps:
            for (now, wanted), found in zip(batch, answers, strict=True):
                if not twin_seconds:
                    slow.predict(now)
                started = time.perf_counter()
                truth = slow.predict(now)
                twin_seconds.append(time.perf_counter() - started)
                errors += [largest_error(found, truth, slot) for slot in wanted.slots]
    period, host_syncs = period_of(options), None
    if fast.device.type == "cuda":
        batches = [one for _ in range(period) for one in next_hop(window, frames, hop)]
        counts = [count_cuda_syncs(partial(fast.predict, now, wanted)) for now, wanted in batches]
        host_syncs = float(np.mean(counts))
    return TwinRun(
        tuple(stream_seconds),
        tuple(twin_seconds),
        max(errors),
        period,
        stream_peak_mib,
        device_peak_mib,
        rss_growth_mib,
        host_syncs,
    )


def peak_device_mib(device: torch.device) -> float | None:
    """Most memory of a GPU that tensors of this process had at any time; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else None


def period_of(options: WindowOptions) -> int:
    """Steps until all is as it was, whole periods of keys and whole hops."""
    frames = options.window_size - options.overlap if options.mode == "anchored" else 1
    return math.lcm(frames, options.window_hop) // options.window_hop


def dearest_step(run: TwinRun) -> float:
    """The median time of the slowest kind of step over that of all: steps a whole period apart are of one kind."""
    kinds = [run.stream_seconds[first :: run.period] for first in range(min(run.period, len(run.stream_seconds)))]
    return max(float(np.median(kind)) for kind in kinds) / float(np.median(run.stream_seconds))


def largest_error(found: WindowPrediction, truth: WindowPrediction, slot: int) -> float:
    """Over all outputs of one frame that were asked for: the largest difference, relative to the largest value.

    A pixel that has a value in one of the two only, as where descriptors match in one only, is an infinite difference.
    """
    worst = 0.0
    for order in ("from_key", "to_key"):
        for item in fields(PairPrediction):
            rows = getattr(getattr(found, order), item.name)
            whole = getattr(getattr(truth, order), item.name)
            if len(rows):
                row, expected = rows[found.row_of(slot)], whole[slot]
                off = (row - expected).abs().masked_fill(row.isnan() & expected.isnan(), 0.0)
                worst = max(worst, float(off.nan_to_num(nan=torch.inf).max() / whole.abs().nan_to_num().max()))
    return worst


def meta_images(images: Sequence[Tensor]) -> Tensor:
    """(b, 3, h, w) on torch's ``meta`` device, as an upload to a GPU would give."""
    return torch.empty(len(images), *images[0].shape, device="meta")


@torch.inference_mode()
def count_arithmetic(config: NetworkConfig, options: WindowOptions, size_wh: tuple[int, int]) -> Arithmetic:
    """Counted by torch on tensors without content, so any size takes no memory and no time to speak of.

    Torch's ``meta`` device, where these are, stands for a GPU: what the host would wait for is counted as well. What is
    made of a network's maps afterwards, as matches of descriptors, is not counted.
    """
    device = torch.device("meta")
    with device:
        network = make_network(config).eval()
    frames = random_frames(size_wh)
    window = RollingWindow(options.window_size, options.overlap, options.mode)
    stream = WindowStream(network, device, upload=meta_images)
    counted = []
    hop = options.window_hop
    for number in range(0, options.window_size + period_of(options) * hop, hop):
        steady = number >= options.window_size
        with FlopCounterMode(display=False) if steady else nullcontext() as counter:
            for now, wanted in next_hop(window, frames, hop):
                stream.maps(now, network.own_wanted(wanted))
        if counter is not None:
            counted.append(1e-12 * counter.get_total_flops() / hop)
    with HostSyncWatch() as watch:
        for now, wanted in next_hop(window, frames, hop):
            stream.maps(now, network.own_wanted(wanted))
    images = torch.zeros(options.window_size, 3, size_wh[1], size_wh[0], device=device)
    with FlopCounterMode(display=False) as counter:
        window_maps(network, images, 0)
    return Arithmetic(float(np.mean(counted)), max(counted), 1e-12 * counter.get_total_flops(), watch.seen.total())


def summarise_twins(run: TwinRun, arithmetic: Arithmetic, gflops: float, empty_mib: float) -> dict[str, FlatValue]:
    """The flat object; the ratio is of mean times, as the steps from one key to the next differ.

    ``empty_mib``: memory of the process before anything was loaded.
    """
    p50, p95 = percentiles(run.stream_seconds)
    stream, twin = float(np.mean(run.stream_seconds)), float(np.mean(run.twin_seconds))
    summary: dict[str, FlatValue] = {
        "ratio_to_slow_twin": twin / stream,
        "max_rel_error": run.max_rel_error,
        "tflop_per_frame": arithmetic.stream_tflop,
        "tflop_per_frame_most": arithmetic.stream_most_tflop,
        "tflop_per_frame_slow_twin": arithmetic.twin_tflop,
        "step_ms_p50": p50,
        "step_ms_p95": p95,
        "step_ms_mean": 1e3 * stream,
        "slow_twin_ms": 1e3 * twin,
        "dearest_step_to_median": dearest_step(run),
        "steps_per_s": 1.0 / stream,
        "share_of_matrix_peak": 1e3 * arithmetic.stream_tflop / stream / gflops,
        "matrix_gflops": gflops,
        "peak_rss_mib": run.stream_peak_mib,
        "rss_growth_mib": run.rss_growth_mib,
        "peak_over_empty_mib": run.stream_peak_mib - empty_mib,
        "peak_device_mib": run.device_peak_mib,
        "host_syncs_in_network": arithmetic.host_syncs,
        "host_syncs_per_step": run.host_syncs,
        "steps_timed": len(run.stream_seconds),
        "slow_twin_steps": len(run.twin_seconds),
    }
    return {name: plain(value) for name, value in summary.items()}


def twin_table(summary: dict[str, FlatValue]) -> Table:
    """The comparison for people."""
    table = Table(title="what is kept of earlier frames, and the slow twin that keeps nothing")
    for heading in ("", "stream", "slow twin", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    ratios = [
        ("ms a frame, mean", "step_ms_mean", "slow_twin_ms"),
        ("TFLOP a frame, mean", "tflop_per_frame", "tflop_per_frame_slow_twin"),
    ]
    for name, fast, slow in ratios:
        ratio = float(summary[slow] or 0.0) / float(summary[fast] or 1.0)
        table.add_row(name, shown(summary[fast]), shown(summary[slow]), f"{ratio:.2f} x")
    table.add_section()
    table.add_row(
        "ms a frame, p50 and p95", f"{shown(summary['step_ms_p50'])}, {shown(summary['step_ms_p95'])}", "", ""
    )
    table.add_row("largest relative difference", f"{float(summary['max_rel_error'] or 0.0):.1e}", "", "")
    table.add_row("share of this machine's matrix peak", shown(summary["share_of_matrix_peak"]), "", "")
    table.add_row("slowest kind of step over the median", shown(summary["dearest_step_to_median"]), "", "")
    table.add_row("operations that would have the host wait", shown(summary["host_syncs_in_network"]), "", "")
    if summary["host_syncs_per_step"] is not None:
        table.add_row("waits of the host a step, but the last", shown(summary["host_syncs_per_step"]), "", "")
    table.add_row("peak memory over nothing loaded", f"{shown(summary['peak_over_empty_mib'])} MiB", "", "")
    return table
