"""Training windows with their truth: drawn from a step's number alone, whatever worker draws them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pomato_ros.datasets.mixture import PAPER_FAR_M, RecordedFrames
from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.world import draw_scene
from pomato_ros.training.config import WORLD, Stage, Task, TrainConfig
from pomato_ros.training.pairing import Pairing, pair_for_task, pair_with_key
from pomato_ros.training.targets import Targets, mirrored, pair_targets, stack_targets, thinned

FIRST_FRAME_KEY_SHARE = 0.75  # of windows; the others' key is their last frame

Window = tuple[Tensor, list[list[Targets]]]  # images (t, 3, h, w), and for every order the truth of its pairs


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Windows of one size. Rows of the targets: all windows' pairs, then with both orders all of them reversed."""

    images: Tensor  # (b, t, 3, h, w) float in [-1, 1]
    pairs: Pairing  # P of each window
    targets: Targets  # b * p rows, or twice as many


class WindowDataset(Dataset[WindowBatch]):
    """Item i is the batch of step i of a run, or one process's part of it. Rendered clips are kept in memory.

    A window of a step is drawn from its place in the step alone, and from a share of the clips that belongs to that
    place: processes that take places of their own render clips of their own, and together do what one would do.
    Clips of a place are dealt to the recipe's lanes, and a step draws from those of its own lane. So W workers, which
    take every W-th step each, share no clip either where W divides the number of lanes.
    """

    def __init__(self, config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        """All steps of the run ``config``, every ``processes``-th window from number ``process`` on.

        Raises:
            ValueError: a dataset of the mixture has no folder, or one that cannot be used.
            OSError: a folder does not hold its dataset.
        """
        self.config = config
        self.process = process
        self.processes = processes
        self._clips: dict[tuple[tuple[int, int, int], int], Clip] = {}
        self._recorded = open_datasets(config)

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
        pairs = draw_pairing(generator, stage, frames)
        windows = max(self.processes, stage.windows_of(frames))
        seeds = torch.randint(0, 1 << 31, (windows,), generator=generator).tolist()
        first, end = self._clips_at(step, stage, shape_index)
        self._forget_before(stage, shape_index, first)
        drawn: list[Window] = []
        for place in range(self.process, windows, self.processes):
            drawer = torch.Generator().manual_seed(seeds[place])
            source = self._draw_source(drawer)
            if source == WORLD:
                turns = [-((place - number) // windows) for number in (first, end)]  # numbers that belong to this place
                turn = draw_turn(drawer, turns[0], turns[1], self.config.lanes, step)
                clip = self._clip(stage, shape_index, place + windows * turn)
                picked = pick_frames(drawer, len(clip), frames, in_order=not stage.pairwise)
                drawn.append(draw_window(drawer, clip, picked, pairs, self.config.network.patch_size))
            else:
                recorded = self._read(drawer, source, stage, frames, self.config.shapes[shape_index].size_wh)
                drawn.append(draw_window(drawer, recorded, range(frames), pairs, self.config.network.patch_size))
        rows = [row for order in range(len(pairs.orders)) for window in drawn for row in window[1][order]]
        targets = thinned(stack_targets(rows), stage.stride)
        return WindowBatch(torch.stack([window[0] for window in drawn]), pairs, targets)

    def _draw_source(self, generator: torch.Generator) -> str:
        """Where a window comes from."""
        names = list(self.config.mixture)
        weights = torch.tensor([float(self.config.mixture[name]) for name in names])
        return names[int(torch.multinomial(weights, 1, generator=generator))]

    def _read(
        self, generator: torch.Generator, dataset: str, stage: Stage, frames: int, size_wh: tuple[int, int]
    ) -> RecordedClip:
        """A window's frames from a dataset, in the window's order and size."""
        sequence, stretch = self._recorded[dataset].stretch(generator, stage.clip_frames)
        picked = pick_frames(generator, len(stretch), frames, in_order=not stage.pairwise)
        return sequence.read([stretch[t] for t in picked]).nearer_than(PAPER_FAR_M).fitted(size_wh)

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


def open_datasets(config: TrainConfig) -> dict[str, RecordedFrames]:
    """The recorded datasets of a recipe's mixture.

    Raises:
        ValueError: as :func:`recorded_sources` and :class:`RecordedFrames`.
        OSError: as :class:`RecordedFrames`.
    """
    fewest = max(max(stage.window_frames) for stage in config.stages)
    return {name: RecordedFrames(name, config.data[name], fewest) for name in recorded_sources(config)}


def recorded_sources(config: TrainConfig) -> list[str]:
    """Names of the datasets that a recipe draws from.

    Raises:
        ValueError: one has no folder in ``config.data``, or a folder is given for none.
    """
    names = [name for name in config.mixture if name != WORLD]
    missing = [name for name in names if name not in config.data]
    if missing:
        raise ValueError(f"the recipe draws from {', '.join(missing)}: give each one's folder with --data NAME=FOLDER")
    unused = [name for name in config.data if name not in names]
    if unused:
        raise ValueError(f"the recipe does not draw from {', '.join(unused)}: say how often with --mix NAME=WEIGHT")
    return names


def draw_pairing(generator: torch.Generator, stage: Stage, frames: int) -> Pairing:
    """A stage's task and key, and the pairs that they ask for; where pairs stand alone, no frame with itself."""
    key = 0 if torch.rand((), generator=generator) < FIRST_FRAME_KEY_SHARE else frames - 1
    task = stage.tasks[int(torch.randint(0, len(stage.tasks), (), generator=generator))]
    if stage.pairwise and task is Task.ENGINE:
        return pair_with_key([t for t in range(frames) if t != key], key)
    return pair_for_task(task, frames, key)


def draw_turn(generator: torch.Generator, first: int, end: int, lanes: int, step: int) -> int:
    """One of the numbers from ``first`` to before ``end`` that are the step's modulo ``lanes``, or of all if none is.

    Where there is no number at all it is ``first``.
    """
    own = range(first + (step - first) % lanes, end, lanes) or range(first, max(first + 1, end))
    return own[int(torch.randint(0, len(own), (), generator=generator))]


def draw_window(
    generator: torch.Generator, clip: Clip | RecordedClip, picked: Sequence[int], pairs: Pairing, patch_px: int
) -> Window:
    """A window of the frames ``picked``, recoloured and perhaps mirrored: images and the truth of its pairs."""
    images = augment_colour(generator, clip.images[list(picked)].permute(0, 3, 1, 2).float() / 127.5 - 1)
    truths = [
        [pair_targets(clip, picked[a], picked[b], patch_px) for a, b in zip(order.view_1, order.view_2, strict=True)]
        for order in pairs.orders
    ]
    if torch.rand((), generator=generator) < 0.5:
        return images.flip(-1), [[mirrored(row) for row in order] for order in truths]
    return images, truths


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
