"""The form of a protocol: what a paper's table is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pomato_ros.datasets.papers.sequence import PaperSequence
from pomato_ros.evaluation.metrics.depth import Alignment, irls_scale


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Figures that a paper prints, in its own words; None where it prints none."""

    method: str
    ate_m: float | None = None
    rpe_translation_m: float | None = None
    rpe_rotation_deg: float | None = None
    depth_absrel: float | None = None
    depth_delta1: float | None = None
    davis_j: float | None = None
    apd: float | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """One data set's rules.

    Attributes:
        layout: name on the command line.
        title: of the table.
        find: the sequences below a folder.
        sequences: names (or their beginnings) that are scored; empty: all.
        start: first frame that is used.
        stride: every so many frames.
        count: frames that are used at most; 0: all.
        max_depth_m: depth from here on is not scored.
        depth: whether depth is scored, aligned over the whole sequence by ``align_depth``.
        poses: whether camera paths are scored after a Sim(3) alignment.
        masks: whether moving masks are scored by region similarity, without the first and the last frame.
        tracks: whether followed points are scored (APD).
        align_depth: scale, or scale and shift.
        published: rows of papers, to stand beside ours.
        source: where the rules are from.
    """

    layout: str
    title: str
    find: Callable[[Path], list[PaperSequence]]
    sequences: tuple[str, ...] = ()
    start: int = 0
    stride: int = 1
    count: int = 0
    max_depth_m: float = 80.0
    depth: bool = False
    poses: bool = False
    masks: bool = False
    tracks: bool = False
    align_depth: Alignment = irls_scale
    published: tuple[PublishedRow, ...] = ()
    source: str = ""

    def frames_of(self, sequence: PaperSequence) -> list[int]:
        """Numbers of the frames that are used."""
        chosen = list(range(min(self.start, sequence.frames - 1), sequence.frames, self.stride))
        return chosen[: self.count] if self.count else chosen

    def chosen(self, sequences: list[PaperSequence]) -> list[PaperSequence]:
        """The sequences that are scored; all where none of the listed ones is there."""
        listed = [each for each in sequences if any(name in each.name for name in self.sequences)]
        return listed or sequences
