"""Held-out rendered sequences as a depth camera and a stereo pair see them, kept on disk once rendered.

Rendering is the slow part: measured at 320x240 on one core of a Xeon, 0.08 s a frame of the training world and 1.3 s
of the driving world, the same again for right images.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pomato_ros.evaluation.oracle_sets import (
    MAJORITY,
    MAJORITY_FRAMES,
    MAJORITY_MOVES,
    NOTHING_MOVES,
    SET_STRIDE,
    STANDING_STILL,
    STILL_RATE_HZ,
    STILL_SECONDS,
    moving_shares,
)
from pomato_ros.evaluation.sequences import SEED_OFFSET
from pomato_ros.structures import FloatArray, Frame, MaskArray, PoseArray
from pomato_ros.synthetic import renderer
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.sensors import KINECT, render_right_images, sense_depth
from pomato_ros.synthetic.world import DRIVING_WORLD, TRAIN_WORLD, WorldConfig, draw_scene, render_clip

SEQUENCES = 64
FRAMES = 60
DRIVING_FRAMES = 24  # the street takes 16 times as long to render
SIZE_WH = (320, 240)
BASELINE_M = 0.1
CACHE = Path("out/rendered")
MOST_TRIES = 40  # seeds looked at for one sequence of moving majorities
PREVIEW_WH = (32, 24)
PERSON_WALKS_BY = dataclasses.replace(
    STANDING_STILL, mover_probability=1.0, movers=(2, 3), walker_probability=0.6, visit_probability=0.8
)
WORLDS: Mapping[str, WorldConfig] = MappingProxyType(
    {
        "ordinary": TRAIN_WORLD,
        "nothing": NOTHING_MOVES,
        "majority": MAJORITY_MOVES,
        "still": PERSON_WALKS_BY,
        "driving": DRIVING_WORLD,
    }
)
SHARES = {"ordinary": 1, "nothing": 4, "majority": 4, "still": 16, "driving": 8}  # one of a kind for so many ordinary


@dataclass(frozen=True, slots=True)
class RenderPlan:
    """Which sequences: ``sequences`` ordinary ones, and of the other kinds as :data:`SHARES` has it.

    Seeds are those of :mod:`pomato_ros.evaluation.oracle_sets`, so that ordinary scenes are the oracle's own.
    """

    held_out_seed: int
    sequences: int = SEQUENCES
    frames: int = FRAMES
    size_wh: tuple[int, int] = SIZE_WH
    cache: Path | None = CACHE  # None: nothing is kept

    def count(self, kind: str) -> int:
        """Sequences of a kind, at least one."""
        return max(1, self.sequences // SHARES[kind])

    def frames_of(self, kind: str) -> int:
        """Frames of each sequence of a kind."""
        if kind == "still":
            return STILL_SECONDS * STILL_RATE_HZ if self.frames == FRAMES else self.frames
        return min(self.frames, DRIVING_FRAMES) if kind == "driving" else self.frames


@dataclass(frozen=True, slots=True, eq=False)
class RenderedSequence:
    """One sequence with its exact truth and what the sensors measured."""

    kind: str
    seed: int
    clip: Clip
    sensed_m: Tensor  # (t, h, w) float32 of the depth camera, NaN where nothing was measured
    right_rgb: Tensor | None  # (t, h, w, 3) uint8, of a camera BASELINE_M to the right; None: not rendered

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.clip)

    def first_from_camera(self) -> PoseArray:
        """(t, 4, 4) true poses in the first camera, metres."""
        poses = self.clip.world_from_camera.numpy()
        return np.asarray(np.linalg.inv(poses[0]) @ poses, np.float64)

    def moving(self) -> MaskArray:
        """(t, h, w) pixels whose point truly moves to or from a neighbouring frame."""
        return np.stack([self.clip.moving(t).numpy() for t in range(len(self))])

    def rgbd_frame(self, t: int) -> Frame:
        """Frame ``t`` of a colour camera with a registered depth camera."""
        clip = self.clip
        sensed: FloatArray = self.sensed_m[t].numpy()
        return Frame(clip.stamps_ns[t], clip.images[t].numpy(), clip.intrinsics, depth_m=sensed)

    def stereo_frame(self, t: int) -> Frame:
        """Frame ``t`` of a rectified stereo pair.

        Raises:
            ValueError: right images were not rendered.
        """
        if self.right_rgb is None:
            raise ValueError("expected a sequence with right images; render it with right=True")
        clip = self.clip
        right: NDArray[np.uint8] = self.right_rgb[t].numpy()
        return Frame(clip.stamps_ns[t], clip.images[t].numpy(), clip.intrinsics, right_rgb=right, baseline_m=BASELINE_M)

    def mono_frame(self, t: int) -> Frame:
        """Frame ``t`` of the left camera alone."""
        return Frame(self.clip.stamps_ns[t], self.clip.images[t].numpy(), self.clip.intrinsics)


def rendered_sequences(
    plan: RenderPlan, kinds: tuple[str, ...] = tuple(WORLDS), *, right: bool = False
) -> Iterator[RenderedSequence]:
    """Every sequence of the named kinds, read from the cache or rendered when it is asked for.

    Args:
        plan: how many, of which size.
        kinds: of :data:`WORLDS`.
        right: with right images.
    """
    for kind in kinds:
        for seed in seeds_of(plan, kind):
            yield rendered_sequence(plan, kind, seed, right=right)


def rendered_sequence(plan: RenderPlan, kind: str, seed: int, *, right: bool = False) -> RenderedSequence:
    """One sequence, from the cache where it is there."""
    frames, size_wh = plan.frames_of(kind), plan.size_wh
    place = None if plan.cache is None else plan.cache / code_digest()
    stem = f"{kind}-{seed}-{frames}-{size_wh[0]}x{size_wh[1]}"
    own = None if place is None else place / f"{stem}.safetensors"
    scene = draw_scene(seed, WORLDS[kind], frames, size_wh)
    arrays = kept(own)
    if arrays is None:
        arrays = render_arrays(renderer.render(scene), seed)
        keep(own, arrays)
    clip = Clip(
        images=arrays["images"],
        depth_m=arrays["depth_m"],
        world_from_camera=scene.world_from_camera,
        intrinsics=scene.intrinsics,
        instance=arrays["instance"],
        world_from_object=scene.world_from_object,
        stamps_ns=list(scene.stamps_ns),
    )
    if not right:
        return RenderedSequence(kind, seed, clip, arrays["sensed_m"], None)
    other = None if place is None else place / f"{stem}-right.safetensors"
    pair = kept(other)
    if pair is None:
        pair = {"right_rgb": torch.from_numpy(render_right_images(scene, BASELINE_M))}
        keep(other, pair)
    return RenderedSequence(kind, seed, clip, arrays["sensed_m"], pair["right_rgb"])


def render_arrays(clip: Clip, seed: int) -> dict[str, Tensor]:
    """What is kept of a clip: what the scene does not say by itself, and what the depth camera measured."""
    sensed = np.stack([sense_depth(clip, t, KINECT, seed) for t in range(len(clip))])
    return {
        "images": clip.images.contiguous(),
        "depth_m": clip.depth_m.contiguous(),
        "instance": clip.instance.contiguous(),
        "sensed_m": torch.from_numpy(sensed),
    }


def kept(path: Path | None) -> dict[str, Tensor] | None:
    """Arrays kept in a file, mapped into memory; None: there is none."""
    if path is None or not path.is_file():
        return None
    with safe_open(str(path), framework="pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping


def keep(path: Path | None, arrays: dict[str, Tensor]) -> None:
    """Write arrays to a file that appears when it is whole; None: nowhere."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file(arrays, partial)
    partial.replace(path)


@cache
def code_digest() -> str:
    """Of the code that draws and renders scenes: what other code rendered is never read again."""
    digest = hashlib.sha256()
    for path in sorted(Path(renderer.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def seeds_of(plan: RenderPlan, kind: str) -> list[int]:
    """Seeds of a kind; for moving majorities those whose scenes have one for long enough.

    Raises:
        ValueError: scenes with a moving majority are too rare.
    """
    first = plan.held_out_seed + SEED_OFFSET + SET_STRIDE * list(WORLDS).index(kind)
    count = plan.count(kind)
    if kind != "majority":
        return list(range(first, first + count))
    found: list[int] = []
    for seed in range(first, first + MOST_TRIES * count):
        shares = moving_shares(render_clip(seed, MAJORITY_MOVES, plan.frames, PREVIEW_WH))
        if float((shares > MAJORITY).float().mean()) >= MAJORITY_FRAMES:
            found.append(seed)
        if len(found) == count:
            return found
    raise ValueError(
        f"expected {count} scenes with a moving majority among {MOST_TRIES * count} seeds, got {len(found)}; "
        "ask for fewer sequences"
    )
