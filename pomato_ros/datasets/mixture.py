"""The datasets of the paper: which they are, how often each is drawn, and where each is read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from pomato_ros.datasets import carla, dynamic_replica, parallel_domain_4d, point_odyssey, tartanair
from pomato_ros.datasets.recording import RecordedSequence

# Draws of each out of 35: 57.1, 14.3, 14.3, 8.6 and 5.7 %. The first three give truth for the matching head.
PAPER_MIXTURE: Mapping[str, int] = {
    "point_odyssey": 20,
    "tartanair": 5,
    "dynamic_replica": 5,
    "parallel_domain_4d": 3,
    "carla": 2,
}
PAPER_FAR_M = 80.0  # depth that MonST3R, which the paper starts from, leaves out of its loss

READERS: Mapping[str, Callable[[Path], Sequence[RecordedSequence]]] = {
    "point_odyssey": point_odyssey.find_sequences,
    "tartanair": tartanair.find_sequences,
    "dynamic_replica": dynamic_replica.find_sequences,
    "parallel_domain_4d": parallel_domain_4d.find_sequences,
    "carla": carla.find_sequences,
}


def open_dataset(dataset: str, root: Path) -> Sequence[RecordedSequence]:
    """The training sequences of a dataset in ``root``.

    Raises:
        ValueError: there is no dataset of this name, or a file holds something else than it should.
        OSError: ``root`` does not hold the dataset, or a file is broken.
    """
    if dataset not in READERS:
        raise ValueError(f"expected one of {', '.join(READERS)}, got {dataset!r}")
    return READERS[dataset](root)


class RecordedFrames:
    """Draws stretches of a dataset's sequences, every stretch of consecutive frames about as often as any other."""

    def __init__(self, dataset: str, root: Path, fewest_frames: int) -> None:
        """Open a dataset in ``root``; sequences of less than ``fewest_frames`` are left out.

        Raises:
            ValueError: as :func:`open_dataset`, or no sequence is long enough.
            OSError: as :func:`open_dataset`.
        """
        found = open_dataset(dataset, root)
        self.sequences = [sequence for sequence in found if len(sequence) >= fewest_frames]
        if not self.sequences:
            raise ValueError(
                f"{root}: none of {dataset}'s {len(found)} sequences has the {fewest_frames} frames that a window "
                "needs; fetch more of it, or use shorter windows"
            )
        self._lengths = torch.tensor([float(len(sequence)) for sequence in self.sequences])

    def stretch(self, generator: torch.Generator, frames: int) -> tuple[RecordedSequence, range]:
        """A sequence and ``frames`` consecutive frames of it, or all it has where it has less."""
        sequence = self.sequences[int(torch.multinomial(self._lengths, 1, generator=generator))]
        count = min(frames, len(sequence))
        first = int(torch.randint(0, len(sequence) - count + 1, (), generator=generator))
        return sequence, range(first, first + count)
