"""A whole sequence from overlapping chunks: each solved once and kept on disk, all fused in one world.

Memory holds one chunk at a time. A chunk whose file is there is not solved again, so that an interrupted run goes on.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.alignment import DegenerateAlignmentError, Similarity, align_similarity
from pomato_ros.mapping.chunk_result import ChunkResult, load_chunk, save_chunk
from pomato_ros.mapping.options import ReconstructionOptions
from pomato_ros.mapping.solvers import ChunkSolver
from pomato_ros.structures import Frame

FUSION_POINTS = 400  # pixels of each shared frame that place a chunk
FUSION_ROUNDS = 8
LEAST_RESIDUAL = 1e-3  # share of the typical distance; smaller residuals weigh alike
IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


@dataclass(frozen=True, slots=True)
class MappedFrame:
    """One frame of a reconstruction, in its world."""

    stamp_ns: int
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    depth: NDArray[np.float32]  # (h, w), NaN where unknown
    confidence: NDArray[np.float32]  # (h, w)
    moving: NDArray[np.bool_]  # (h, w)
    world_from_camera: NDArray[np.float64]  # (4, 4)
    camera_matrix: NDArray[np.float64]  # (3, 3)

    def points_world(self) -> NDArray[np.float64]:
        """(h, w, 3), NaN where the depth is unknown."""
        height, width = self.depth.shape
        y, x = np.mgrid[:height, :width]
        rays = np.stack((x, y, np.ones_like(x)), axis=-1) @ np.linalg.inv(self.camera_matrix).T
        camera = rays * self.depth[..., None]
        return camera @ self.world_from_camera[:3, :3].T + self.world_from_camera[:3, 3]


@dataclass(frozen=True)
class Reconstruction:
    """Chunks on disk, and where each one stands in the world of the first.

    Attributes:
        files: of the chunks, in order.
        world_from_chunk: a similarity for each.
        rows: (n, 2) chunk and row of every frame, in the order of time, each frame once.
        metric: the unit is the metre.
    """

    files: tuple[Path, ...]
    world_from_chunk: tuple[Similarity, ...]
    rows: NDArray[np.int64]
    metric: bool

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.rows)

    def frames(self) -> Iterator[MappedFrame]:
        """Every frame in the order of time; one chunk is in memory at a time."""
        for number, (file, fit) in enumerate(zip(self.files, self.world_from_chunk, strict=True)):
            chunk = load_chunk(file)
            poses = fit.apply_to_poses(chunk.world_from_camera)
            for row in self.rows[self.rows[:, 0] == number, 1]:
                depth = np.where(chunk.depth[row] > 0, chunk.depth[row] * np.float32(fit.scale), np.nan)
                yield MappedFrame(
                    int(chunk.stamps_ns[row]),
                    chunk.images_rgb[row],
                    depth.astype(np.float32),
                    chunk.confidence[row],
                    chunk.moving[row],
                    poses[row],
                    chunk.camera_matrix,
                )

    @cached_property
    def trajectory(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Stamps (n,) in ns and world from camera (n, 4, 4)."""
        stamps, poses = [], []
        for frame in self.frames():
            stamps.append(frame.stamp_ns)
            poses.append(frame.world_from_camera)
        return np.array(stamps, np.int64), np.stack(poses)


def reconstruct(
    frames: Iterable[Frame],
    solver: ChunkSolver,
    options: ReconstructionOptions,
    work: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> Reconstruction:
    """Solve a sequence chunk by chunk; ``advance`` is called with the number of frames that are done.

    Args:
        frames: in the order of time.
        solver: of a chunk.
        options: how the sequence is cut.
        work: folder of the chunks' files, made if missing; what lies there of the same frames is used again.
        advance: for a progress display.

    Raises:
        UnusableFrame: fewer than two frames.
        ConfigError: chunks that are not longer than what they share.
    """
    work.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    fits: list[Similarity] = []
    before: ChunkResult | None = None
    metric = True
    for chunk_frames in cut(frames, options):
        file = work / f"chunk_{len(files):05d}_{fingerprint(chunk_frames, solver.identity)}.npz"
        if not file.is_file():
            save_chunk(solver.solve(chunk_frames), file)
        chunk = load_chunk(file)
        fits.append(IDENTITY if before is None else placed_after(before, fits[-1], chunk))
        files.append(file)
        before, metric = chunk, metric and chunk.metric
        advance(len(chunk_frames))
    if not files:
        raise UnusableFrame("a reconstruction needs at least two frames, got fewer; use a longer source")
    return Reconstruction(tuple(files), tuple(fits), owned_rows(files), metric)


def cut(frames: Iterable[Frame], options: ReconstructionOptions) -> Iterator[list[Frame]]:
    """Chunks of frames that share ``overlap`` frames with the next one; the last one may be shorter."""
    held: list[Frame] = []
    fresh = used = 0
    for number, frame in enumerate(frames):
        if number % options.stride:
            continue
        if options.max_frames and used >= options.max_frames:
            break
        held.append(frame)
        fresh, used = fresh + 1, used + 1
        if len(held) == options.chunk:
            yield held
            held, fresh = held[-min(options.overlap, options.chunk - 1) :], 0
    if fresh and len(held) > 1:
        yield held


def fingerprint(frames: Sequence[Frame], identity: str) -> str:
    """12 hexadecimal digits that change with the frames and with what solves them."""
    state = hashlib.sha256(identity.encode())
    for frame in frames:
        state.update(str(frame.stamp_ns).encode())
        state.update(np.ascontiguousarray(frame.image_rgb).tobytes())
    return state.hexdigest()[:12]


def placed_after(before: ChunkResult, world_from_before: Similarity, chunk: ChunkResult) -> Similarity:
    """World from ``chunk``: the similarity on which the points of shared frames agree, least absolute distance.

    Metric chunks keep their scale. Where points do not determine it, the first shared camera does.
    """
    shared, rows_before, rows_after = np.intersect1d(before.stamps_ns, chunk.stamps_ns, return_indices=True)
    if not len(shared):
        return world_from_before
    source, target = [], []
    for row_before, row_after in zip(rows_before, rows_after, strict=True):
        pixels = _shared_pixels(before, int(row_before), chunk, int(row_after))
        source.append(chunk.points_world(int(row_after), *pixels))
        target.append(before.points_world(int(row_before), *pixels))
    with_scale = not (before.metric and chunk.metric)
    try:
        fit = robust_similarity(np.concatenate(source), np.concatenate(target), with_scale)
    except DegenerateAlignmentError:
        fit = _on_camera(before.world_from_camera[rows_before[0]], chunk.world_from_camera[rows_after[0]])
    return chained(world_from_before, fit)


def robust_similarity(source: NDArray[np.float64], target: NDArray[np.float64], with_scale: bool = True) -> Similarity:
    """Target from source (n, 3) of least absolute distance, by reweighted least squares."""
    fit = align_similarity(source, target, with_scale=with_scale)
    floor = LEAST_RESIDUAL * float(np.median(np.linalg.norm(target - target.mean(axis=0), axis=-1)))
    for _ in range(FUSION_ROUNDS):
        residual = np.linalg.norm(fit.apply(source) - target, axis=-1)
        fit = align_similarity(source, target, 1 / np.maximum(residual, max(floor, 1e-12)), with_scale=with_scale)
    return fit


def chained(a_from_b: Similarity, b_from_c: Similarity) -> Similarity:
    """One similarity after the other: a from c."""
    return Similarity(
        a_from_b.scale * b_from_c.scale, a_from_b.rotation @ b_from_c.rotation, a_from_b.apply(b_from_c.translation)
    )


def owned_rows(files: Sequence[Path]) -> NDArray[np.int64]:
    """(n, 2) chunk and row of every frame: a shared frame belongs to the chunk whose end is farther from it."""
    owner: dict[int, tuple[int, int, int]] = {}  # stamp -> frames to the nearest end, chunk, row
    for number, file in enumerate(files):
        with np.load(file, allow_pickle=False) as stored:
            stamps = stored["stamps_ns"]
        for row, stamp in enumerate(stamps):
            margin = min(row, len(stamps) - 1 - row)
            if int(stamp) not in owner or margin > owner[int(stamp)][0]:
                owner[int(stamp)] = (margin, number, row)
    return np.array([owner[stamp][1:] for stamp in sorted(owner)], np.int64)


def _shared_pixels(
    before: ChunkResult, row_before: int, chunk: ChunkResult, row_after: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns that both chunks know and find at rest, evenly thinned."""
    usable = (before.depth[row_before] > 0) & (chunk.depth[row_after] > 0)
    usable &= ~before.moving[row_before] & ~chunk.moving[row_after]
    rows, columns = np.nonzero(usable)
    step = max(1, len(rows) // FUSION_POINTS)
    return rows[::step], columns[::step]


def _on_camera(target_from_camera: NDArray[np.float64], source_from_camera: NDArray[np.float64]) -> Similarity:
    """The rigid motion that brings one camera onto the other."""
    motion = target_from_camera @ np.linalg.inv(source_from_camera)
    return Similarity(1.0, motion[:3, :3], motion[:3, 3])
