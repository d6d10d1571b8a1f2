"""The window's answer at the price of its newest frame: what a frame cost once is kept while a window holds it.

What is kept, and why nothing changes by it (all of it is arithmetic that the slow twin,
:func:`pomato_ros.sources.dust3r.wiring.window_maps`, repeats):

* A frame's encoder tokens depend on that frame alone.
* A pair's decoder tokens depend on its two frames alone, so they last as long as the window's key does. Frames that
  will belong to the next anchored window too are paired with its key as they come, so no step has to catch up. The
  key's pair with itself is the same in both orders. A symmetric network gives both orders of a pair at once.
* The first two motion modules of a head begin with each frame alone: norm, projection, and the first queries, keys and
  values at the frame's slot. These last as long as the pair does.
* Inside a head only the motion modules pass anything between frames, and after the last of them each frame stands
  alone: the last module asks for, and the rest of the head computes, only the frames whose pointmaps are wanted.
* A head that nobody reads is not evaluated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pomato_ros.sources.dust3r.cuda_graphs import PlainRuns, Replays, Tensors
from pomato_ros.sources.dust3r.heads import PATCH_SIZE_PX, EarlyModules, Head, HeadSpec, Maps, WindowMaps
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.preprocess import network_inputs
from pomato_ros.sources.dust3r.temporal import Prepared, Projected, stack_prepared
from pomato_ros.sources.dust3r.transfer import PlainTransfer
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.structures import PreparedFrame, Window

TokenLists = tuple[dict[int, Tensor], dict[int, Tensor]]  # of view 1 and of view 2, (n, c) by depth that heads read


@dataclass(slots=True)
class OrderedPairs:
    """One order of the pairs of a window: decoder tokens of its frames, and what heads made of them alone."""

    tokens: list[TokenLists] = field(default_factory=list)
    early: dict[int, list[EarlyModules]] = field(default_factory=dict)  # by head, of the first frames or of all

    def stacked(self, view: int, depths: Sequence[int]) -> list[Tensor]:
        """Tokens of view 0 or 1 at some depths, each as (t, n, c)."""
        return [torch.stack([lists[view][depth] for lists in self.tokens]) for depth in depths]


@dataclass(slots=True)
class KeyedPairs:
    """Frames paired with one key, in the window's order."""

    key: PreparedFrame
    frames: list[PreparedFrame] = field(default_factory=list)
    from_key: OrderedPairs = field(default_factory=OrderedPairs)  # view 1 = frame, view 2 = key
    to_key: OrderedPairs = field(default_factory=OrderedPairs)  # view 1 = key, view 2 = frame

    def begins(self, key: PreparedFrame, frames: Sequence[PreparedFrame]) -> bool:
        """Whether these are the first pairs of a window with ``key`` and ``frames``."""
        known = len(self.frames)
        return self.key is key and known <= len(frames) and all(map(same, self.frames, frames[:known]))


def same(one: PreparedFrame, other: PreparedFrame) -> bool:
    """Whether two are one frame, not only alike."""
    return one is other


class WindowStream:
    """Predicts windows that follow one another; any window at all gets the right answer, only not as fast."""

    def __init__(
        self,
        network: Trunk,
        device: torch.device,
        upload: Callable[[Sequence[Tensor]], Tensor] | None = None,
        run: PlainRuns | Replays | None = None,
    ) -> None:
        """``network`` lives on ``device``.

        Args:
            network: in evaluation mode.
            device: where.
            upload: images (3, h, w) of the host -> (b, 3, h, w) on the device; :class:`PlainTransfer` by default.
            run: calls the pieces of a step; as they are by default.
        """
        self._network = network
        self._device = device
        self._upload = PlainTransfer(device).up if upload is None else upload
        self._run = PlainRuns() if run is None else run
        self._depths = network.kept_depths[1:]
        self._heads = [(spec, network.head(spec)) for spec in network.HEADS]
        self._image_hw = (0, 0)
        self._encoded: list[tuple[PreparedFrame, Tensor]] = []
        self._pairs: KeyedPairs | None = None
        self._next_pairs: KeyedPairs | None = None

    def predict(self, window: Window, wanted: Wanted) -> WindowPrediction:
        """:meth:`maps` as POMATO's three, whatever the network."""
        return self._network.prediction(self.maps(window, self._network.own_wanted(wanted)), wanted)

    def maps(self, window: Window, wanted: Wanted) -> WindowMaps:
        """What is ``wanted`` of the pairs of ``window``; on the network's device."""
        self._watch_size(window.frames[0].size_hw)
        self._encode(window.frames)
        pairs = self._update_pairs(window)
        orders = ((pairs.from_key, wanted.from_key_heads), (pairs.to_key, wanted.to_key_heads))
        maps: tuple[Maps, Maps] = ({}, {})
        for spec, head in self._heads:
            read = [order for order, heads in orders if spec.number in heads]
            found = iter(self._evaluate(spec, head, read, window, wanted))
            none = self._no_rows(head) if len(read) < len(orders) else ()
            for (_, heads), into in zip(orders, maps, strict=True):
                into |= zip(spec.maps, next(found) if spec.number in heads else none, strict=True)
        return WindowMaps(window.key, maps[0], maps[1], wanted.slots)

    def _no_rows(self, head: Head) -> Tensors:
        """The maps of a head that nobody reads: of the right shape, without rows."""
        return head.maps_of(torch.zeros(0, head.channels, *self._image_hw, device=self._device))

    def forget(self) -> None:
        """Let go of all frames; pieces that were recorded stay, they know sizes only."""
        self._encoded, self._pairs, self._next_pairs = [], None, None

    def _watch_size(self, image_hw: tuple[int, int]) -> None:
        """Nothing that was made for images of another size is of any use."""
        if image_hw != self._image_hw:
            self.forget()
            self._run.forget()
            self._image_hw = image_hw

    @property
    def _grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self._image_hw
        return height // PATCH_SIZE_PX, width // PATCH_SIZE_PX

    def _evaluate(
        self, spec: HeadSpec, head: Head, orders: Sequence[OrderedPairs], window: Window, wanted: Wanted
    ) -> list[Tensors]:
        """Maps (len(wanted.slots), ...) of one head for each of ``orders``, all in one evaluation."""
        if not orders:
            return []
        grid = self._grid
        frames = len(window.frames)
        stacks = [order.stacked(spec.view, head.hooks) for order in orders]
        inputs = [torch.cat(parts) for parts in zip(*stacks, strict=True)]
        if head.is_temporal:
            ready = [modules for order in orders for modules in self._prepared(head, spec, order, grid)]
            for module in range(2):
                inputs += stack_prepared([modules[module] for modules in ready]).parts()
        asked = (frames, wanted.slots, wanted.stride)
        piece = partial(evaluate_head, head, grid, *asked)
        maps = self._run(("head", spec.module, *asked), piece, *inputs)
        return list(zip(*(part.chunk(len(orders)) for part in maps), strict=True))

    def _prepared(
        self, head: Head, spec: HeadSpec, order: OrderedPairs, grid_hw: tuple[int, int]
    ) -> list[EarlyModules]:
        """Of every frame of an order, with those that are new to this head."""
        known = order.early.setdefault(spec.number, [])
        slots = range(len(known), len(order.tokens))
        if slots:
            new = [[order.tokens[slot][spec.view][depth] for slot in slots] for depth in head.hooks]
            piece = partial(prepare_head, head, grid_hw, slots)
            parts = self._run(("prepare", spec.number, slots), piece, *(torch.stack(rows) for rows in new))
            known.extend(zip(of_parts(parts[:4]).rows(), of_parts(parts[4:]).rows(), strict=True))
        return known

    def _encode(self, frames: Sequence[PreparedFrame]) -> None:
        """Tokens of every frame of the window; those of others are dropped."""
        known = {id(frame): tokens for frame, tokens in self._encoded}
        new = [frame for frame in frames if id(frame) not in known]
        if new:
            (tokens,) = self._run("encode", self._encode_piece, self._upload(network_inputs(new)))
            known |= {id(frame): row for frame, row in zip(new, tokens, strict=True)}
        self._encoded = [(frame, known[id(frame)]) for frame in frames]

    def _encode_piece(self, images: Tensor) -> Tensors:
        return (self._network.encode(images),)

    def _decode_piece(self, grid_hw: tuple[int, int], tokens_1: Tensor, tokens_2: Tensor) -> Tensors:
        """Tokens of view 1, then of view 2, at the depths kept but the first, which are the inputs themselves."""
        lists = self._network.decode(tokens_1, tokens_2, grid_hw)
        return tuple(view[depth] for view in lists for depth in self._depths)

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

    def _begun(self, key: PreparedFrame, frames: Sequence[PreparedFrame]) -> KeyedPairs:
        """Pairs of a window so far, if any were made."""
        kept = (pairs for pairs in (self._pairs, self._next_pairs) if pairs is not None and pairs.begins(key, frames))
        return next(kept, KeyedPairs(key))

    def _decode(self, jobs: Sequence[tuple[KeyedPairs, PreparedFrame]]) -> None:
        """Pairs that are missing, in both orders, all in one evaluation; a key with itself is one pair, not two.

        Of a symmetric network the second order is the first one with its views exchanged.
        """
        if not jobs:
            return
        known = {id(frame): tokens for frame, tokens in self._encoded}
        rows = [(frame, pairs.key) for pairs, frame in jobs]
        turned = [number for number, (pairs, frame) in enumerate(jobs) if frame is not pairs.key]
        if self._network.SYMMETRIC:
            turned = []
        rows += [rows[number][::-1] for number in turned]
        tokens_1, tokens_2 = (torch.stack([known[id(frame)] for frame in view]) for view in zip(*rows, strict=True))
        grid = self._grid
        decoded = self._run(("decode", grid), partial(self._decode_piece, grid), tokens_1, tokens_2)
        count = len(self._depths)
        for number, (pairs, frame) in enumerate(jobs):
            back = len(jobs) + turned.index(number) if number in turned else number
            for order, row in ((pairs.from_key, number), (pairs.to_key, back)):
                deep = [tokens[row] for tokens in decoded]
                first = [known[id(of_view)] for of_view in rows[row]]
                view_1, view_2 = (
                    {0: at_first, **dict(zip(self._depths, of_view, strict=True))}
                    for at_first, of_view in zip(first, (deep[:count], deep[count:]), strict=True)
                )
                turn = self._network.SYMMETRIC and order is pairs.to_key
                order.tokens.append((view_2, view_1) if turn else (view_1, view_2))
            pairs.frames.append(frame)


def evaluate_head(
    head: Head,
    grid_hw: tuple[int, int],
    frames: int,
    slots: tuple[int, ...],
    stride: int,
    *inputs: Tensor,
) -> Tensors:
    """A head's maps of the frames ``slots``; with a ``stride`` computed at every so many pixels only.

    ``inputs``: tokens at each of the head's hooks, then, in a temporal network, what was prepared of them.
    """
    count = len(head.hooks)
    tokens = dict(zip(head.hooks, inputs[:count], strict=True))
    rest = inputs[count:]
    early = (of_parts(rest[:4]), of_parts(rest[4:])) if rest else None
    raw = head.raw(tokens, grid_hw, frames, stride, slots, early)
    if raw.shape[-1] < grid_hw[1] * PATCH_SIZE_PX:
        raw = F.interpolate(raw, scale_factor=stride, mode="bilinear", align_corners=True)
    return head.maps_of(raw)


def prepare_head(head: Head, grid_hw: tuple[int, int], slots: Sequence[int], *tokens: Tensor) -> Tensors:
    """What both early motion modules make of frames at ``slots``: tokens, queries, keys and values of each."""
    first, second = head.prepare(dict(zip(head.hooks, tokens, strict=True)), grid_hw, slots)
    return (*first.parts(), *second.parts())


def of_parts(parts: Sequence[Tensor]) -> Prepared:
    """The inverse of :meth:`Prepared.parts`."""
    tokens, q, k, v = parts
    return Prepared(tokens, Projected(q, k, v))
