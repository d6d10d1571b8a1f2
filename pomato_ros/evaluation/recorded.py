"""Real sequences on disk, each scored with the truth that it has, beside the OpenCV pipeline on the same frames."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pomato_ros.evaluation.davis import DAVIS_FOLDER, DavisResult, SizedPerceiver, evaluate_davis, find_sequences
from pomato_ros.evaluation.kitti import KITTI_FOLDER, KittiResult, evaluate_kitti


@dataclass(frozen=True, slots=True)
class Recordings:
    """What there is to run."""

    davis: tuple[Path, ...]
    kitti: Path | None

    @property
    def count(self) -> int:
        """Sequences in all."""
        return len(self.davis) + (self.kitti is not None)


@dataclass(frozen=True, slots=True)
class RecordedResults:
    """What came out."""

    davis: tuple[DavisResult, ...]
    kitti: KittiResult | None


def find_recordings(folder: Path) -> Recordings:
    """The sequences in ``folder/davis`` and the drive in ``folder/kitti_stereo``.

    Raises:
        FileNotFoundError: there is neither.
    """
    davis, kitti = folder / DAVIS_FOLDER, folder / KITTI_FOLDER
    found = Recordings(
        davis=tuple(find_sequences(davis)) if davis.is_dir() else (), kitti=kitti if kitti.is_dir() else None
    )
    if not found.count:
        raise FileNotFoundError(f"no recordings in {folder}: expected {DAVIS_FOLDER}/NAME or {KITTI_FOLDER} there")
    return found


def evaluate_recorded(engine: SizedPerceiver, recordings: Recordings, advance: Callable[[], None]) -> RecordedResults:
    """Every sequence through the engine, from a reset on; ``advance`` is called after each."""
    davis = tuple(evaluate_davis(engine, recordings.davis, advance))
    kitti = None
    if recordings.kitti is not None:
        kitti = evaluate_kitti(engine, recordings.kitti)
        advance()
    return RecordedResults(davis, kitti)
