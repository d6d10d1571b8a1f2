"""The window's answer at the price of its newest frame: what a frame cost once is kept while a window holds it.

What is kept, and why nothing changes by it (all of it is arithmetic that the slow twin,
:func:`pomato_ros.model.wiring.predict_window`, repeats):

* A frame's encoder tokens depend on that frame alone.
* A pair's decoder tokens depend on its two frames alone, so they last as long as the window's key does. Frames that
  will belong to the next anchored window too are paired with its key as they come, so no step has to catch up.
* Inside a head only the motion modules pass anything between frames, and after the last of them each frame stands
  alone: the last module asks for, and the rest of the head computes, only the frames whose pointmaps are wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pomato_ros.model.pomato import Pomato
from pomato_ros.structures import ModelFrame, PairPrediction, Window, WindowPrediction

TokenLists = tuple[list[Tensor], list[Tensor]]  # of view 1 and of view 2, one tensor (n, c) for each hooked depth


@dataclass(slots=True)
class KeyedPairs:
    """Decoder tokens of frames paired with one key, in both orders and in the window's order."""

    key: ModelFrame
    frames: list[ModelFrame] = field(default_factory=list)
    from_key: list[TokenLists] = field(default_factory=list)  # view 1 = frame, view 2 = key
    to_key: list[TokenLists] = field(default_factory=list)  # view 1 = key, view 2 = frame

    def begins(self, key: ModelFrame, frames: Sequence[ModelFrame]) -> bool:
        """Whether these are the first pairs of a window with ``key`` and ``frames``."""
        known = len(self.frames)
        return self.key is key and known <= len(frames) and all(map(same, self.frames, frames[:known]))

    def stacked(self, view: int) -> list[Tensor]:
        """All tokens of ``view`` 0 or 1, each hook's as (2 * t, n, c): all frames from the key, then all to it."""
        rows = [*self.from_key, *self.to_key]
        return [torch.stack(hook) for hook in zip(*(lists[view] for lists in rows), strict=True)]


def same(one: ModelFrame, other: ModelFrame) -> bool:
    """Whether two are one frame, not only alike."""
    return one is other


class WindowStream:
    """Predicts windows that follow one another; any window at all gets the right answer, only not as fast."""

    def __init__(self, network: Pomato, device: torch.device) -> None:
        """``network`` lives on ``device``."""
        self._network = network
        self._device = device
        self._hooks = network.config.hooks
        self._encoded: list[tuple[ModelFrame, Tensor]] = []
        self._pairs: KeyedPairs | None = None
        self._next_pairs: KeyedPairs | None = None

    def predict(self, window: Window, slots: Sequence[int]) -> WindowPrediction:
        """Both pair orders of the frames ``slots`` of ``window`` against its key."""
        self._encode(window.frames)
        pairs, network = self._update_pairs(window), self._network
        grid = network.grid_of(window.frames[0].image)
        frames = len(window.frames)
        view_1, view_2 = (dict(zip(self._hooks, pairs.stacked(view), strict=True)) for view in (0, 1))
        points_1, conf_1 = network.downstream_head1(view_1, grid, frames, slots=slots)
        points_2, conf_2 = network.downstream_head2(view_2, grid, frames, slots=slots)
        points_match, conf_match = network.downstream_head3(view_2, grid, frames, slots=slots)
        maps = (points_1, conf_1, points_2, conf_2, points_match, conf_match)
        from_key, to_key = zip(*(part.chunk(2) for part in maps), strict=True)
        return WindowPrediction(window.key, PairPrediction(*from_key), PairPrediction(*to_key), tuple(slots))

    def _encode(self, frames: Sequence[ModelFrame]) -> None:
        """Tokens of every frame of the window; those of others are dropped."""
        known = {id(frame): tokens for frame, tokens in self._encoded}
        new = [frame for frame in frames if id(frame) not in known]
        if new:
            images = torch.stack([frame.image for frame in new]).to(self._device)
            known |= {id(frame): tokens for frame, tokens in zip(new, self._network.encode(images), strict=True)}
        self._encoded = [(frame, known[id(frame)]) for frame in frames]

    def _update_pairs(self, window: Window) -> KeyedPairs:
        """The window's pairs, with what was missing of them and, where its key is known, of the next window's."""
        pairs = self._begun(window.frames[window.key], window.frames)
        wanted = [(pairs, window.frames)]
        if window.next_key is None:
            self._next_pairs = None
        else:
            shared = window.frames[window.next_key :]
            self._next_pairs = self._begun(shared[0], shared)
            wanted.append((self._next_pairs, shared))
        self._pairs = pairs
        self._decode([(begun, frame) for begun, frames in wanted for frame in frames[len(begun.frames) :]])
        return pairs

    def _begun(self, key: ModelFrame, frames: Sequence[ModelFrame]) -> KeyedPairs:
        """Pairs of a window so far, if any were made."""
        kept = (pairs for pairs in (self._pairs, self._next_pairs) if pairs is not None and pairs.begins(key, frames))
        return next(kept, KeyedPairs(key))

    def _decode(self, jobs: Sequence[tuple[KeyedPairs, ModelFrame]]) -> None:
        """Pairs that are missing, in both orders, all in one evaluation."""
        if not jobs:
            return
        known = {id(frame): tokens for frame, tokens in self._encoded}
        frames = torch.stack([known[id(frame)] for _, frame in jobs])
        keys = torch.stack([known[id(pairs.key)] for pairs, _ in jobs])
        grid = self._network.grid_of(jobs[0][1].image)
        list_1, list_2 = self._network.decode(torch.cat((frames, keys)), torch.cat((keys, frames)), grid)
        for number, (pairs, frame) in enumerate(jobs):
            for store, row in ((pairs.from_key, number), (pairs.to_key, number + len(jobs))):
                store.append(([list_1[hook][row] for hook in self._hooks], [list_2[hook][row] for hook in self._hooks]))
            pairs.frames.append(frame)
