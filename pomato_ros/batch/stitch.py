"""Chunks of one recording in one world: each is placed on the one before by the frames that both saw."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pomato_ros.batch.chunk_task import FrameTable
from pomato_ros.geometry.alignment import DegenerateAlignmentError, Similarity
from pomato_ros.mapping.reconstruct import IDENTITY, chained, robust_similarity

UPPER = np.triu_indices(6)


@dataclass(frozen=True, slots=True)
class Stitched:
    """A whole recording.

    Attributes:
        table: a row for each frame, all in one world.
        chunk: (n,) where each row comes from.
        seams: chunks that no shared frame could be placed by; the path is broken there.
    """

    table: FrameTable
    chunk: NDArray[np.int64]
    seams: int


def stitch(chunks: Sequence[FrameTable]) -> Stitched:
    """All frames once, in the order of time; a shared frame is the earlier chunk's, which has seen more before it."""
    world_from_chunk = [IDENTITY]
    seams = 0
    for before, after in zip(chunks[:-1], chunks[1:], strict=True):
        fit = place(before, after)
        seams += fit is None
        world_from_chunk.append(chained(world_from_chunk[-1], fit or IDENTITY))
    tables, numbers = [], []
    last_ns = -1
    for number, (table, fit) in enumerate(zip(chunks, world_from_chunk, strict=True)):
        fresh = table.stamp_ns > last_ns
        tables.append(moved(rows_of(table, fresh), fit))
        numbers.append(np.full(int(fresh.sum()), number))
        last_ns = max(last_ns, int(table.stamp_ns[-1]))
    joined = {each.name: np.concatenate([getattr(table, each.name) for table in tables]) for each in fields(FrameTable)}
    return Stitched(FrameTable(**joined), np.concatenate(numbers), seams)


def place(before: FrameTable, after: FrameTable) -> Similarity | None:
    """World of ``before`` from that of ``after``, on points at rest of shared frames; None where there are too few."""
    _, rows_before, rows_after = np.intersect1d(before.stamp_ns, after.stamp_ns, return_indices=True)
    target, source = points_world(before, rows_before), points_world(after, rows_after)
    usable = np.isfinite(target).all(axis=-1) & np.isfinite(source).all(axis=-1)
    if usable.sum() < 3:
        return None
    try:
        return robust_similarity(source[usable], target[usable])
    except DegenerateAlignmentError:
        return None


def points_world(table: FrameTable, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """(m, 3) points of some frames' grids in the chunk's world."""
    poses = table.world_from_camera[rows]
    points = np.einsum("nij,nkj->nki", poses[:, :3, :3], table.camera_points[rows].astype(np.float64))
    return np.asarray((points + poses[:, None, :3, 3]).reshape(-1, 3))


def rows_of(table: FrameTable, chosen: NDArray[np.bool_]) -> FrameTable:
    """Some of the rows."""
    return FrameTable(**{each.name: getattr(table, each.name)[chosen] for each in fields(FrameTable)})


def moved(table: FrameTable, world_from_chunk: Similarity) -> FrameTable:
    """The rows in another world: positions, covariances and depth take its unit."""
    turn = np.zeros((6, 6))
    turn[:3, :3], turn[3:, 3:] = world_from_chunk.scale * world_from_chunk.rotation, world_from_chunk.rotation
    whole = np.zeros((len(table), 6, 6))
    whole[:, UPPER[0], UPPER[1]] = table.covariance
    whole[:, UPPER[1], UPPER[0]] = table.covariance
    return replace(
        table,
        world_from_camera=world_from_chunk.apply_to_poses(table.world_from_camera),
        covariance=(turn @ whole @ turn.T)[:, UPPER[0], UPPER[1]],
        camera_points=(table.camera_points * np.float32(world_from_chunk.scale)).astype(np.float32),
        median_depth=table.median_depth * world_from_chunk.scale,
    )
