"""The sets of held-out scenes on which the engine is judged apart from a network: variants of the training world."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.sequences import SEED_OFFSET
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig, render_clip

SEQUENCES = 64
FRAMES = 60
SPECIAL_SHARE = 4  # one sequence of a special set for so many ordinary ones
STILL_SHARE = 16
SET_STRIDE = 100_000  # between the first seeds of two sets
MAJORITY = 0.5  # share of the image that moves
MAJORITY_FRAMES = 0.25  # share of a sequence's frames in which it must
MOST_TRIES = 40  # seeds looked at for one sequence of moving majorities
LOOK_SIZE_WH = (32, 24)  # of the quick look at a seed
STILL_SECONDS = 60
STILL_RATE_HZ = 10
BLIND_FRAMES = 10
UNMOVED = (1e-9, 1e-9)  # ranges are logarithmic, so nothing is exactly zero

NOTHING_MOVES = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0)
MAJORITY_MOVES = dataclasses.replace(
    TRAIN_WORLD,
    mover_probability=1.0,
    movers=(2, 3),
    mover_image_share=(0.5, 0.9),
    mover_size_m=(0.4, 2.5),
    mover_speed_m_s=(0.15, 0.5),
    frame_interval_s=(0.033, 0.08),
)
STANDING_STILL = dataclasses.replace(
    TRAIN_WORLD,
    camera_kinds=(0.0, 0.0, 0.0, 0.0, 1.0),
    shake_m=UNMOVED,
    shake_deg=UNMOVED,
    frame_interval_s=(1.0 / STILL_RATE_HZ, 1.0 / STILL_RATE_HZ),
)


@dataclass(frozen=True, slots=True)
class OraclePlan:
    """How many sequences of which length; the special sets are smaller."""

    first_seed: int
    size_wh: tuple[int, int]
    sequences: int = SEQUENCES
    frames: int = FRAMES

    @property
    def special_sequences(self) -> int:
        """Sequences of each set where nothing, or most, moves, and of those that go blind."""
        return max(1, self.sequences // SPECIAL_SHARE)

    @property
    def still_sequences(self) -> int:
        """Minutes of standing still."""
        return max(1, self.sequences // STILL_SHARE)


@dataclass(frozen=True, slots=True)
class OracleSequence:
    """One sequence to run."""

    kind: str  # one of KINDS
    seed: int
    clip: Clip
    blind: range = range(0)  # frames whose image is noise


KINDS = ("ordinary", "nothing", "majority", "still", "blind")


def plan_oracle(
    held_out_seed: int, size_wh: tuple[int, int], sequences: int = SEQUENCES, frames: int = FRAMES
) -> OraclePlan:
    """The plan that begins at ``held_out_seed``, which training never draws."""
    return OraclePlan(held_out_seed + SEED_OFFSET, size_wh, sequences, frames)


def planned(plan: OraclePlan) -> dict[str, int]:
    """How many sequences of each kind."""
    special = plan.special_sequences
    return dict(zip(KINDS, (plan.sequences, special, special, plan.still_sequences, special), strict=True))


def oracle_sequences(plan: OraclePlan, kinds: tuple[str, ...] = KINDS) -> Iterator[OracleSequence]:
    """Every sequence of the named kinds, rendered when it is asked for."""
    for kind in kinds:
        first = plan.first_seed + SET_STRIDE * KINDS.index(kind)
        yield from (draw_sequence(kind, seed, plan) for seed in _seeds(kind, first, planned(plan)[kind], plan.frames))


def draw_sequence(kind: str, seed: int, plan: OraclePlan) -> OracleSequence:
    """Render one sequence."""
    frames = STILL_SECONDS * STILL_RATE_HZ if kind == "still" else plan.frames
    clip = render_clip(seed, WORLDS[kind], frames, plan.size_wh)
    if kind != "blind":
        return OracleSequence(kind, seed, clip)
    middle = frames // 2
    blind = range(middle - BLIND_FRAMES // 2, middle + (BLIND_FRAMES + 1) // 2)
    return OracleSequence(kind, seed, with_noise_images(clip, blind, seed), blind)


def with_noise_images(clip: Clip, blind: range, seed: int) -> Clip:
    """The clip with images of pure noise at the frames ``blind``; its truth stays."""
    images = clip.images.clone()
    generator = torch.Generator().manual_seed(seed)
    shape = (len(blind), *images.shape[1:])
    images[list(blind)] = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    return dataclasses.replace(clip, images=images)


def moving_shares(clip: Clip) -> torch.Tensor:
    """(t,) share of each frame's pixels that move."""
    return torch.stack([clip.moving(t).float().mean() for t in range(len(clip))])


def _seeds(kind: str, first: int, count: int, frames: int) -> list[int]:
    """Seeds of a set; for moving majorities those whose scenes have one for long enough.

    Raises:
        ConfigError: scenes with a moving majority are too rare.
    """
    if kind != "majority":
        return list(range(first, first + count))
    found: list[int] = []
    for seed in range(first, first + MOST_TRIES * count):
        shares = moving_shares(render_clip(seed, MAJORITY_MOVES, frames, LOOK_SIZE_WH))
        if float((shares > MAJORITY).float().mean()) >= MAJORITY_FRAMES:
            found.append(seed)
        if len(found) == count:
            return found
    raise ConfigError(
        f"expected {count} scenes with a moving majority among {MOST_TRIES * count} seeds, got {len(found)}; "
        "ask for fewer sequences or change MAJORITY_MOVES"
    )


WORLDS: dict[str, WorldConfig] = {
    "ordinary": TRAIN_WORLD,
    "nothing": NOTHING_MOVES,
    "majority": MAJORITY_MOVES,
    "still": STANDING_STILL,
    "blind": TRAIN_WORLD,
}
