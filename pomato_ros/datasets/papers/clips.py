"""Data sets that are read for training too (TartanAir, PointOdyssey, Dynamic Replica), as sequences to evaluate on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pomato_ros.datasets import dynamic_replica, point_odyssey, tartanair
from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.datasets.recording import RecordedSequence
from pomato_ros.structures import FloatArray, Frame

RATE_HZ = 30.0


def tartanair_sequences(root: Path) -> list[PaperSequence]:
    """All trajectories of TartanAir."""
    return [of_recorded(each) for each in tartanair.find_sequences(root)]


def point_odyssey_sequences(root: Path) -> list[PaperSequence]:
    """The test split of PointOdyssey."""
    return [of_recorded(each) for each in _first_split(point_odyssey.find_sequences, root, ("test", "val", "train"))]


def dynamic_replica_sequences(root: Path) -> list[PaperSequence]:
    """The test split of Dynamic Replica."""
    return [
        of_recorded(each) for each in _first_split(dynamic_replica.find_sequences, root, ("test", "valid", "train"))
    ]


def of_recorded(sequence: RecordedSequence) -> PaperSequence:
    """A sequence whose frames, depth and poses are read one by one."""

    def read_frame(number: int) -> Frame:
        clip = sequence.read([number])
        return Frame(round((number + 1) * 1e9 / RATE_HZ), clip.images[0].numpy(), clip.intrinsics[0])

    def read_depth(number: int) -> FloatArray:
        return np.asarray(sequence.read([number]).depth_m[0].numpy(), np.float32)

    poses = np.concatenate([sequence.read([number]).world_from_camera.numpy() for number in range(len(sequence))])
    return PaperSequence(sequence.name, len(sequence), read_frame, read_depth, poses)


def _first_split(
    find: Callable[[Path, str], Sequence[RecordedSequence]], root: Path, splits: Sequence[str]
) -> Sequence[RecordedSequence]:
    """The sequences of the first split that is there."""
    problem: OSError | None = None
    for split in splits:
        try:
            return find(root, split)
        except OSError as error:
            problem = problem or error
    raise problem or FileNotFoundError(f"no split in {root}")
