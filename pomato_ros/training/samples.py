"""Training windows with their truth: drawn from a step's number alone, whatever worker draws them."""

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.world import draw_scene
from pomato_ros.training.config import Stage, TrainConfig

FIRST_FRAME_KEY_SHARE = 0.75  # of windows; the others' key is their last frame


@dataclass(frozen=True, slots=True)
class Targets:
    """Truth of P pairs (view 1, view 2), metres; names as in :class:`pomato_ros.structures.PairPrediction`."""

    points_1: Tensor  # (p, h, w, 3)
    points_2: Tensor  # (p, h, w, 3)
    points_match: Tensor  # (p, h, w, 3)
    moving: Tensor  # (p, h, w) bool: pixels of view 2 whose point moved between the two times
    patch_matches: Tensor  # (p, gh, gw, gh, gw): share of each patch of view 2 that is seen in each patch of view 1

    def to(self, device: torch.device) -> "Targets":
        """The same on another device."""
        return Targets(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of one size. Rows of the targets: all windows' paired frames from the key, then all to the key."""

    images: Tensor  # (b, t, 3, h, w) float in [-1, 1]
    key: int
    paired: tuple[int, ...]  # frames of a window that are paired with the key, p of them
    targets: Targets  # 2 * b * p rows


def patch_matches(clip: Clip, view_1: int, view_2: int, patch_px: int) -> Tensor:
    """(gh, gw, gh, gw): which share of a patch of ``view_2`` is seen in which patch of ``view_1``; what is hidden, none."""
    height, width = clip.depth_m.shape[1:]
    rows, columns = height // patch_px, width // patch_px
    seen = clip.visible(view_2, view_1)
    pixels = clip.pixels_matched(view_2, view_1)[seen].round().long()
    y, x = torch.nonzero(seen, as_tuple=True)
    here = (y // patch_px) * columns + x // patch_px
    there = (pixels[:, 1] // patch_px) * columns + pixels[:, 0] // patch_px
    counts = torch.bincount(here * rows * columns + there, minlength=(rows * columns) ** 2)
    return counts.view(rows, columns, rows, columns) / patch_px**2


def pair_targets(clip: Clip, view_1: int, view_2: int, patch_px: int) -> Targets:
    """Truth of one pair, without the leading axis."""
    return Targets(
        points_1=clip.points_camera(view_1),
        points_2=clip.points_transferred(view_2, view_1),
        points_match=clip.points_matched(view_2, view_1),
        moving=clip.moving_mask(view_2, view_1),
        patch_matches=patch_matches(clip, view_1, view_2, patch_px),
    )


def stack_targets(rows: list[Targets]) -> Targets:
    """Rows to a batch."""
    return Targets(**{item.name: torch.stack([getattr(row, item.name) for row in rows]) for item in fields(Targets)})


def mirrored(targets: Targets) -> Targets:
    """What a mirrored image sees (left and right exchanged)."""
    sign = torch.tensor([-1.0, 1.0, 1.0])
    return Targets(
        points_1=targets.points_1.flip(-2) * sign,
        points_2=targets.points_2.flip(-2) * sign,
        points_match=targets.points_match.flip(-2) * sign,
        moving=targets.moving.flip(-1),
        patch_matches=targets.patch_matches.flip((-3, -1)),
    )


def thinned(targets: Targets, stride: int) -> Targets:
    """Truth at the pixels that a head without its last upsamplings speaks of: corners stay corners."""
    if stride == 1:
        return targets
    height, width = targets.moving.shape[-2:]
    rows = torch.linspace(0, height - 1, height // stride).round().long()
    columns = torch.linspace(0, width - 1, width // stride).round().long()
    maps = ("points_1", "points_2", "points_match", "moving")
    return replace(targets, **{name: getattr(targets, name)[:, rows][:, :, columns] for name in maps})


class WindowDataset(Dataset[WindowBatch]):
    """Item i is the batch of step i of a run, or one process's part of it. Rendered clips are kept in memory.

    A window of a step is drawn from its place in the step alone, and from a share of the clips that belongs to that
    place: processes that take places of their own render clips of their own, and together do what one would do.
    """

    def __init__(self, config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        """All steps of the run ``config``, every ``processes``-th window from number ``process`` on."""
        self.config = config
        self.process = process
        self.processes = processes
        self._clips: dict[tuple[tuple[int, int, int], int], Clip] = {}

    def __len__(self) -> int:
        """The number of steps."""
        return self.config.total_steps

    def __getitem__(self, step: int) -> WindowBatch:
        """The batch of ``step``, always the same."""
        stage = self.config.stage_at(step)
        generator = torch.Generator().manual_seed((self.config.seed << 30) + step)
        weights = torch.tensor([shape.weight for shape in self.config.shapes])
        shape_index = int(torch.multinomial(weights, 1, generator=generator))
        frames = stage.window_frames[int(torch.randint(0, len(stage.window_frames), (), generator=generator))]
        key = 0 if torch.rand((), generator=generator) < FIRST_FRAME_KEY_SHARE else frames - 1
        windows = max(self.processes, stage.windows_of(frames))
        paired = tuple(t for t in range(frames) if t != key or not stage.pairwise)
        seeds = torch.randint(0, 1 << 31, (windows,), generator=generator).tolist()
        first, end = self._clips_at(step, stage, shape_index)
        self._forget_before(stage, shape_index, first)
        drawn = []
        for place in range(self.process, windows, self.processes):
            drawer = torch.Generator().manual_seed(seeds[place])
            turns = [-((place - number) // windows) for number in (first, end)]  # of numbers that belong to this place
            turn = int(torch.randint(turns[0], max(turns[0] + 1, turns[1]), (), generator=drawer))
            clip = self._clip(stage, shape_index, place + windows * turn)
            drawn.append(draw_window(drawer, clip, stage, frames, key, paired, self.config.network.patch_size))
        rows = [row for window in drawn for row in window[1]] + [row for window in drawn for row in window[2]]
        targets = thinned(stack_targets(rows), stage.stride)
        return WindowBatch(torch.stack([window[0] for window in drawn]), key, paired, targets)

    def _clips_at(self, step: int, stage: Stage, shape_index: int) -> tuple[int, int]:
        """Numbers of a shape's clips to draw from at a step, from the first to before the end; ever new ones."""
        share = self.config.shapes[shape_index].weight / sum(shape.weight for shape in self.config.shapes)
        first = math.floor(share * stage.new_clips * step)
        return first, first + max(1, math.ceil(share * stage.clips))

    def _forget_before(self, stage: Stage, shape_index: int, first: int) -> None:
        """Drop clips that no later step draws from."""
        for pool, number in list(self._clips):
            if pool[:2] != (stage.clip_frames, stage.kept_frames) or (pool[2] == shape_index and number < first):
                del self._clips[pool, number]

    def _clip(self, stage: Stage, shape_index: int, number: int) -> Clip:
        """A rendered clip; shapes and lengths have pools of their own."""
        place = (stage.clip_frames, stage.kept_frames, shape_index), number
        if place not in self._clips:
            seed = (self.config.seed << 30) + (stage.clip_frames << 24) + (shape_index << 20) + number
            size_wh = self.config.shapes[shape_index].size_wh
            scene = draw_scene(seed, self.config.world, stage.clip_frames, size_wh)
            if stage.kept_frames:
                picker = torch.Generator().manual_seed(seed)
                scene = scene.at(torch.randperm(stage.clip_frames, generator=picker)[: stage.kept_frames].tolist())
            self._clips[place] = render(scene)
        return self._clips[place]


def draw_window(
    generator: torch.Generator,
    clip: Clip,
    stage: Stage,
    frames: int,
    key: int,
    paired: tuple[int, ...],
    patch_px: int,
) -> tuple[Tensor, list[Targets], list[Targets]]:
    """Images (t, 3, h, w) in [-1, 1], targets from the key, targets to the key."""
    picked = pick_frames(generator, len(clip), frames, in_order=not stage.pairwise)
    images = augment_colour(generator, clip.images[picked].permute(0, 3, 1, 2).float() / 127.5 - 1)
    from_key = [pair_targets(clip, picked[t], picked[key], patch_px) for t in paired]
    to_key = [pair_targets(clip, picked[key], picked[t], patch_px) for t in paired]
    if torch.rand((), generator=generator) < 0.5:
        images = images.flip(-1)
        from_key, to_key = [mirrored(row) for row in from_key], [mirrored(row) for row in to_key]
    return images, from_key, to_key


def pick_frames(generator: torch.Generator, clip_frames: int, frames: int, in_order: bool) -> list[int]:
    """Distinct frames of a clip; a window that sees time runs evenly, forwards or backwards, pairs in any order."""
    if not in_order:
        return torch.randperm(clip_frames, generator=generator)[:frames].tolist()
    stride = int(torch.randint(1, (clip_frames - 1) // (frames - 1) + 1, (), generator=generator))
    first = int(torch.randint(0, clip_frames - stride * (frames - 1), (), generator=generator))
    picked = list(range(first, first + stride * frames, stride))
    return picked if torch.rand((), generator=generator) < 0.5 else picked[::-1]


def augment_colour(generator: torch.Generator, images: Tensor) -> Tensor:
    """Exchange colour channels and change contrast and brightness, alike for all frames of a window."""
    images = images[:, torch.randperm(3, generator=generator)]
    contrast = 0.7 + 0.6 * torch.rand((), generator=generator)
    brightness = 0.4 * torch.rand((), generator=generator) - 0.2
    return (images * contrast + brightness).clamp(-1, 1)
