"""The run over all recordings: plan, map, stitch, index. Everything that is done already is left as it is."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pomato_ros.batch.chunk_task import ChunkTask, FrameTable
from pomato_ros.batch.executors import Executor
from pomato_ros.batch.inputs import folder_of, open_input
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.stitch import Stitched, stitch
from pomato_ros.batch.store import Store
from pomato_ros.batch.summary_page import summary_page
from pomato_ros.batch.tables import columns_of, mcap_bytes, parquet_bytes
from pomato_ros.config import PomatoConfig
from pomato_ros.structures import TrackingState

PLAN, SUMMARY, QUARANTINE = "plan.json", "summary.json", "quarantine.json"
INDEX, PAGE = "index.parquet", "index.html"
NO_FRAMES = "holds fewer than two frames"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of a run."""

    done: list[dict[str, Any]]  # the summary of each recording
    quarantined: dict[str, str]  # recording -> reason
    seconds: float


@dataclass
class _Recording:
    """One input while it is worked on."""

    uri: str
    folder: str
    missing: set[int] = field(default_factory=set)
    tasks: list[ChunkTask] = field(default_factory=list)
    reason: str = ""


def run_batch(
    inputs: Sequence[str],
    store: Store,
    executor: Executor,
    config: PomatoConfig,
    options: BatchOptions,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> BatchReport:
    """Map every recording and write its results, the index, the quarantine and the summary page.

    ``advance`` is called with the numbers of tasks done and known so far.
    """
    started = time.perf_counter()
    recordings = [_Recording(uri, folder_of(uri)) for uri in inputs]
    by_folder = {each.folder: each for each in recordings}
    known = 0

    def pending() -> Iterator[ChunkTask]:
        nonlocal known
        for recording in recordings:
            _plan(recording, store, config, options)
            known += len(recording.missing)
            yield from (task for task in recording.tasks if task.number in recording.missing)

    for finished, outcome in enumerate(executor.run(pending(), store, config), start=1):
        recording = by_folder[outcome.task.folder]
        recording.reason = recording.reason or outcome.reason
        recording.missing.discard(outcome.task.number)
        advance(finished, known)
        if not recording.missing and not recording.reason:
            _finish(recording, store)
    for recording in recordings:
        if not recording.reason and not store.exists(f"{recording.folder}/{SUMMARY}"):
            _finish(recording, store)
    return _conclude(recordings, store, time.perf_counter() - started)


def cut(frames: int, options: BatchOptions) -> list[tuple[int, int]]:
    """Start and count of each chunk; together they cover all frames, and neighbours share ``overlap``."""
    frames = min(frames, options.max_frames) if options.max_frames else frames
    step = options.chunk - min(options.overlap, options.chunk - 1)
    starts = [0]
    while starts[-1] + options.chunk < frames:
        starts.append(starts[-1] + step)
    return [(start, min(options.chunk, frames - start)) for start in starts]


def identity_of(config: PomatoConfig, options: BatchOptions) -> str:
    """16 hexadecimal digits that change with whatever the answers depend on."""
    parts = (config, options.chunk, options.overlap, options.max_frames)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _plan(recording: _Recording, store: Store, config: PomatoConfig, options: BatchOptions) -> None:
    """Tasks of a recording, and which of them are still to be done; a recording that cannot be read gets a reason."""
    identity = identity_of(config, options)
    try:
        with open_input(recording.uri) as frames:
            count = len(frames)
    except Exception as error:  # whatever a broken recording raises is its reason
        recording.reason = f"{type(error).__name__}: {error}"
        return
    if count < 2:
        recording.reason = f"{recording.uri} {NO_FRAMES}"
        return
    chunks = cut(count, options)
    plan = {"uri": recording.uri, "identity": identity, "frames": count, "chunks": chunks}
    content = json.dumps(plan, indent=1).encode()
    name = f"{recording.folder}/{PLAN}"
    if store.exists(name) and store.read(name) != content:
        recording.reason = (
            f"{recording.folder} holds results of other options or another recording; choose another --out or remove it"
        )
        return
    store.write(name, content)
    recording.tasks = [
        ChunkTask(recording.uri, recording.folder, number, start, length)
        for number, (start, length) in enumerate(chunks)
    ]
    there = set(store.names(f"{recording.folder}/chunks"))
    recording.missing = {task.number for task in recording.tasks if task.file.rpartition("/")[2] not in there}


def _finish(recording: _Recording, store: Store) -> None:
    """Stitch a recording and write its files, the summary last; what goes wrong is its reason."""
    try:
        chunks = [FrameTable.from_bytes(store.read(task.file)) for task in recording.tasks]
        result = stitch(chunks)
        store.write(f"{recording.folder}/frames.parquet", parquet_bytes(columns_of(result)))
        store.write(f"{recording.folder}/run.mcap", mcap_bytes(result))
        summary = json.dumps(summarise(recording.uri, recording.folder, result), indent=1)
        store.write(f"{recording.folder}/{SUMMARY}", summary.encode())
    except (OSError, ValueError) as error:
        recording.reason = f"{type(error).__name__}: {error}"


def summarise(uri: str, folder: str, result: Stitched) -> dict[str, Any]:
    """Figures of one recording; lengths in the recording's own unit, which need not be the metre."""
    table = result.table
    known = np.isfinite(table.world_from_camera[:, 0, 3])
    steps = np.linalg.norm(np.diff(table.world_from_camera[known, :3, 3], axis=0), axis=-1)
    seconds = float(table.stamp_ns[-1] - table.stamp_ns[0]) * 1e-9
    last = table.covariance[known][-1] if known.any() else np.full(3, np.nan)
    return {
        "uri": uri,
        "folder": folder,
        "frames": len(table),
        "chunks": int(result.chunk[-1]) + 1,
        "seams": result.seams,
        "seconds": seconds,
        "frames_per_second": (len(table) - 1) / seconds if seconds > 0 else 0.0,
        "lost_share": float((table.state == TrackingState.LOST.value).mean()),
        "path_length": float(steps.sum()),
        "position_sigma_at_end": float(np.sqrt(max(last[0], 0.0))) if np.isfinite(last[0]) else None,
        "moving_share": float(table.moving_share.mean()),
        "inlier_ratio": float(np.nanmean(table.inlier_ratio)),
    }


def _conclude(recordings: Sequence[_Recording], store: Store, seconds: float) -> BatchReport:
    """Index, quarantine and page."""
    done = [
        json.loads(store.read(f"{each.folder}/{SUMMARY}"))
        for each in recordings
        if not each.reason and store.exists(f"{each.folder}/{SUMMARY}")
    ]
    quarantined = {each.uri: each.reason for each in recordings if each.reason}
    names = list(done[0]) if done else ["uri"]
    store.write(INDEX, parquet_bytes({name: [row[name] for row in done] for name in names}))
    store.write(QUARANTINE, (json.dumps(quarantined, indent=1) + "\n").encode())
    store.write(PAGE, summary_page(done, quarantined).encode())
    return BatchReport(done, quarantined, seconds)
