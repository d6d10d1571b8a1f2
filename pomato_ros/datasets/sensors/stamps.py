"""Puts together what two sensors recorded: nearest stamps within a bound, and poses between those of a trajectory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from pomato_ros.geometry.rigid import pose_from
from pomato_ros.structures import PoseArray

NS_PER_S = 1_000_000_000


def stamp_ns(seconds: str) -> int:
    """Nanoseconds of a decimal number of seconds, exactly: no detour through floating point."""
    whole, _, part = seconds.partition(".")
    return int(whole) * NS_PER_S + int((part + "0" * 9)[:9])


def nearest_pairs(
    stamps_a_ns: Sequence[int], stamps_b_ns: Sequence[int], max_offset_ns: int
) -> list[tuple[int, int, int]]:
    """(index a, index b, b - a in ns) of stamps nearest to each other, each used once; both rising.

    Candidates within ``max_offset_ns`` are taken in the order of their offset, so that no pair has a nearer free
    partner on both sides.
    """
    b = np.asarray(stamps_b_ns, dtype=np.int64)
    candidates = []
    for index, stamp in enumerate(stamps_a_ns):
        low, high = np.searchsorted(b, [stamp - max_offset_ns, stamp + max_offset_ns + 1])
        candidates += [(abs(int(b[other]) - stamp), index, other) for other in range(low, high)]
    taken_a: set[int] = set()
    taken_b: set[int] = set()
    pairs = []
    for _, index, other in sorted(candidates):
        if index in taken_a or other in taken_b:
            continue
        taken_a.add(index)
        taken_b.add(other)
        pairs.append((index, int(other), int(b[other]) - stamps_a_ns[index]))
    return sorted(pairs)


def interpolate_poses(
    stamps_ns: NDArray[np.int64], world_from_body: PoseArray, asked_ns: Sequence[int], max_gap_ns: int
) -> PoseArray:
    """(n, 4, 4) poses at ``asked_ns``: positions linear, rotations by slerp; NaN where no two poses enclose the stamp.

    Args:
        stamps_ns: (t,) rising.
        world_from_body: (t, 4, 4).
        asked_ns: (n,).
        max_gap_ns: the two enclosing poses may be so far apart.
    """
    asked = np.asarray(asked_ns, dtype=np.int64)
    poses = np.full((len(asked), 4, 4), np.nan)
    if len(stamps_ns) < 2:
        return poses
    after = np.searchsorted(stamps_ns, asked).clip(1, len(stamps_ns) - 1)
    known = (asked >= stamps_ns[0]) & (asked <= stamps_ns[-1])
    known &= stamps_ns[after] - stamps_ns[after - 1] <= max_gap_ns
    if not known.any():
        return poses
    origin = int(stamps_ns[0])
    times_s, asked_s = (stamps_ns - origin) * 1e-9, (asked[known] - origin) * 1e-9
    turns = Slerp(times_s, Rotation.from_matrix(world_from_body[:, :3, :3]))(asked_s).as_matrix()
    places = [np.interp(asked_s, times_s, world_from_body[:, axis, 3]) for axis in range(3)]
    poses[known] = pose_from(turns, np.stack(places, axis=-1))
    return poses


def read_tum_trajectory(path: Path) -> tuple[NDArray[np.int64], PoseArray]:
    """Stamps (t,) in ns and poses (t, 4, 4) of a file of rows ``seconds tx ty tz qx qy qz qw``; # starts a comment.

    Raises:
        ValueError: a row has another number of entries.
    """
    rows = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    wrong = next((row for row in rows if len(row) != 8), None)
    if wrong is not None or not rows:
        raise ValueError(f"{path}: expected rows of 8 numbers (seconds, position, quaternion xyzw), got {wrong}")
    values = np.array([[float(value) for value in row[1:]] for row in rows])
    stamps = np.array([stamp_ns(row[0]) for row in rows], dtype=np.int64)
    order = np.argsort(stamps, kind="stable")
    order = order[np.concatenate(([True], np.diff(stamps[order]) > 0))]
    poses = pose_from(Rotation.from_quat(values[order, 3:]).as_matrix(), values[order, :3])
    return stamps[order], poses
