"""What each part of the moving mask is worth: the oracle's sequences with one part left out at a time.

The engine runs once; what it gave to its mask is kept, and every variant sees just that.
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from pomato_ros.engine import Engine
from pomato_ros.evaluation.metrics.masks import MaskCounts, count_mask
from pomato_ros.evaluation.oracle_sets import MAJORITY, OracleSequence
from pomato_ros.evaluation.oracle_trial import frame_with_depth, pooled_counts
from pomato_ros.evaluation.report import FlatValue, plain, ratio, shown
from pomato_ros.pointmap_scene.motion_mask import motion_mask
from pomato_ros.pointmap_scene.moving import MaskParts, MovingMask
from pomato_ros.pointmap_scene.pipeline import PointmapPipeline
from pomato_ros.pointmap_scene.reference import PairMaps

KINDS = ("ordinary", "nothing", "majority")  # of sequences that score masks
ALL, PAPER = "all_parts", "paper"
MEANINGS = {
    ALL: "all parts",
    "quartile": "without the paper's rule (what is usual in the image)",
    "distance": "without normalising by distance",
    "rays": "without telling motion along rays from motion across them",
    "confidence": "without confidence",
    "calibration": "without calibrating confidence",
    "floor": "without the absolute floor",
    "medians": "without medians over neighbours (edge-aware clean-up)",
    "own_motion": "without the pixel's own motion (edge-aware clean-up)",
    "average": "without averaging motion over frames",
    "memory": "without votes of earlier frames",
    "likeness": "without forgetting where the image differs",
    "hysteresis": "without hysteresis",
    "least_area": "without a least area",
    PAPER: "the paper's rule alone (3 medians, each pair by itself)",
}
SCORES = ("mask_iou", "mask_false_positive", "mask_iou_majority")
EngineFor = Callable[[OracleSequence], Engine]


def variants() -> dict[str, MaskParts]:
    """All parts, and each one left out."""
    names = [item.name for item in dataclasses.fields(MaskParts)]
    return {ALL: MaskParts(), **{name: dataclasses.replace(MaskParts(), **{name: False}) for name in names}}


@dataclass(slots=True)
class MaskTape:
    """What an engine gave to its mask in the frames of a sequence, in order."""

    asked: list[tuple[NDArray[np.uint8], PairMaps | None, float, float]] = field(default_factory=list)
    forgotten: list[bool] = field(default_factory=list)  # after the frame: the engine was lost

    def update(self, image_rgb: NDArray[np.uint8], maps: PairMaps | None, alpha: float, floor: float) -> None:
        """Note one frame."""
        self.asked.append((image_rgb, maps, alpha, floor))
        self.forgotten.append(False)


@dataclass(frozen=True, slots=True)
class MaskScores:
    """Pixels of all sequences: where things move, where nothing does, and where most of the image does."""

    ordinary: MaskCounts
    nothing: MaskCounts
    majority: MaskCounts

    def values(self) -> dict[str, float]:
        """By name, as in the oracle's summary."""
        free = self.nothing
        return {
            "mask_iou": ratio(self.ordinary.both, self.ordinary.either),
            "mask_false_positive": ratio(free.either - free.both, free.total),
            "mask_iou_majority": ratio(self.majority.both, self.majority.either),
        }


def ablate_mask(
    engine_for: EngineFor, sequences: Iterable[OracleSequence], tell: Callable[[], None] = lambda: None
) -> dict[str, MaskScores]:
    """Scores of each variant, in the order of :data:`MEANINGS`; ``tell`` is called after each sequence."""
    counts: dict[str, dict[str, list[MaskCounts]]] = {name: {kind: [] for kind in KINDS} for name in MEANINGS}
    for sequence in sequences:
        clip = sequence.clip
        tape = record_mask(engine_for(sequence), sequence)
        truth = np.stack([clip.moving(t).numpy() for t in range(len(clip))])
        counted = np.ones(len(clip), bool)
        if sequence.kind == "majority":
            counted = truth.mean(axis=(1, 2)) > MAJORITY
        for name, parts in variants().items():
            counts[name][sequence.kind].append(count_mask(replay(tape, parts)[counted], truth[counted]))
        counts[PAPER][sequence.kind].append(count_mask(replay_paper(tape)[counted], truth[counted]))
        tell()
    return {name: MaskScores(**{kind: pooled_counts(counts[name][kind]) for kind in KINDS}) for name in MEANINGS}


def record_mask(engine: Engine, sequence: OracleSequence) -> MaskTape:
    """What the mask is given while the engine runs over a sequence; the engine's own masks are left as they are."""
    engine.reset()
    tape, mask = MaskTape(), cast(PointmapPipeline, engine._pipeline).estimator._mask
    update, forget = mask.update, mask.forget

    def noting(*args: Any) -> Any:
        tape.update(*args)
        return update(*args)

    def forgetting() -> None:
        if tape.forgotten:
            tape.forgotten[-1] = True
        forget()

    for name, method in (("update", noting), ("forget", forgetting)):
        setattr(mask, name, method)
    for t in range(len(sequence.clip)):
        engine.step(frame_with_depth(sequence, t))
    return tape


def replay(tape: MaskTape, parts: MaskParts) -> NDArray[np.bool_]:
    """(t, h, w) masks of a variant; empty where the engine was lost."""
    mask = MovingMask(parts)
    found = []
    for given, forgotten in zip(tape.asked, tape.forgotten, strict=True):
        moving = mask.update(*given)
        if forgotten:
            mask.forget()
        found.append(np.zeros_like(moving) if forgotten else moving)
    return np.stack(found)


def replay_paper(tape: MaskTape) -> NDArray[np.bool_]:
    """(t, h, w) masks of the paper's rule on each pair; empty on a frame that is its own reference."""
    found = []
    for image_rgb, maps, alpha, _ in tape.asked:
        empty = np.zeros(image_rgb.shape[:2], bool)
        found.append(empty if maps is None else motion_mask(maps.points_2, maps.points_match, alpha, 0.0).numpy())
    return np.stack(found)


def summarise_ablation(scores: dict[str, MaskScores]) -> dict[str, FlatValue]:
    """The flat object: with all parts under the scores' own names, others after ``without_`` or ``paper_``."""
    summary: dict[str, FlatValue] = {}
    for name, each in scores.items():
        prefix = {ALL: "", PAPER: "paper_"}.get(name, f"without_{name}_")
        summary |= {f"{prefix}{key}": plain(value) for key, value in each.values().items()}
    return summary


def ablation_table(scores: dict[str, MaskScores]) -> Table:
    """A line for each variant; how far it is from all parts in brackets."""
    table = Table(title="the moving mask without one of its parts")
    for heading in ("variant", "IoU", "false positives where nothing moves", "IoU where most moves"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    whole = scores[ALL].values()
    for name, each in scores.items():
        values = each.values()
        cells = [
            shown(plain(values[key]))
            if name == ALL
            else f"{shown(plain(values[key]))} ({values[key] - whole[key]:+.4f})"
            for key in SCORES
        ]
        table.add_row(MEANINGS[name], *cells)
    return table
