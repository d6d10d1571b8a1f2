"""Pieces of a step recorded once for each size and replayed: on a GPU as CUDA graphs, without a word from Python.

A piece is a function of tensors alone; whatever else it depends on is in its name. It is recorded on tensors that
stay where they are, its static inputs and outputs. A call copies its inputs into these, replays, and copies the
outputs out of them, so nobody ever holds a tensor that a later call writes to.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Piece = Callable[..., Tensors]
Again = Callable[[], object]  # computes a recording's outputs anew from what its inputs hold now
Recorder = Callable[[Callable[[], Tensors]], tuple[Again, Tensors]]
RUNS_BEFORE = 2  # of a piece before its capture: libraries choose their kernels and take their memory meanwhile
MOST_PIECES = 256  # an anchored window of 12 has some 100; what is beyond is rare and runs as it is
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """One piece at one size."""

    again: Again
    inputs: Tensors
    outputs: Tensors


class SharedInputs:
    """Memory for the static inputs of all recordings: one buffer for each place among the inputs.

    Recordings may share it, since each copies its inputs in just before it runs. A buffer that is too small gives way
    to one at least twice as large; recordings that lie in the old one keep it.
    """

    def __init__(self) -> None:
        """Empty."""
        self._buffers: dict[tuple[int, torch.dtype], Tensor] = {}

    def like(self, inputs: Tensors) -> Tensors:
        """Contiguous tensors of the shapes, types and device of ``inputs``; what they hold is left open."""
        return tuple(self._one(place, x) for place, x in enumerate(inputs))

    def forget(self) -> None:
        """Let go of all buffers."""
        self._buffers.clear()

    def _one(self, place: int, x: Tensor) -> Tensor:
        known = self._buffers.get((place, x.dtype))
        if known is None or known.numel() < x.numel():
            room = x.numel() if known is None else max(x.numel(), 2 * known.numel())
            known = self._buffers[place, x.dtype] = torch.empty(room, dtype=x.dtype, device=x.device)
        return known.narrow(0, 0, x.numel()).view(x.shape)


class PlainRuns:
    """Calls every piece as it comes."""

    def __call__(self, name: Hashable, piece: Piece, *inputs: Tensor) -> Tensors:
        """``piece`` of ``inputs``."""
        return piece(*inputs)

    def forget(self) -> None:
        """Nothing is kept."""


class Replays:
    """Calls a piece as it comes at first, records it the second time and replays it from then on."""

    def __init__(self, recorder: Recorder) -> None:
        """``recorder``: how, see :class:`GraphRecorder`."""
        self._recorder = recorder
        self._known: dict[Hashable, Recording | None] = {}  # None: seen, but not recorded
        self._inputs = SharedInputs()
        self._refused = False
        self.warmup_count = (
            0  # calls so far that took longer than later ones will: of pieces seen first, or being recorded
        )

    def __call__(self, name: Hashable, piece: Piece, *inputs: Tensor) -> Tensors:
        """``piece`` of ``inputs``, as tensors of their own.

        ``name``: equal for pieces that are equal functions; inputs of other shapes or types are another recording.
        """
        kind = (name, *((tuple(x.shape), x.dtype) for x in inputs))
        recording = self._known.get(kind)
        if recording is None:
            recording = self._record(kind, piece, inputs)
        if recording is None:
            return piece(*inputs)
        for static, new in zip(recording.inputs, inputs, strict=True):
            static.copy_(new)
        recording.again()
        return tuple(output.clone() for output in recording.outputs)

    @property
    def count(self) -> int:
        """Pieces recorded."""
        return sum(recording is not None for recording in self._known.values())

    def forget(self) -> None:
        """Let go of all recordings, as for images of another size."""
        self._known.clear()
        self._inputs.forget()

    def _record(self, kind: Hashable, piece: Piece, inputs: Tensors) -> Recording | None:
        """None at the first time and where there are too many."""
        if self._refused or kind not in self._known:
            if not self._refused and len(self._known) < MOST_PIECES:
                self._known[kind] = None
                self.warmup_count += 1
            return None
        self.warmup_count += 1
        static = self._inputs.like(inputs)
        for buffer, new in zip(static, inputs, strict=True):
            buffer.copy_(new)
        try:
            again, outputs = self._recorder(lambda: piece(*static))
        except RuntimeError as error:  # what cannot be captured still runs as it is
            LOGGER.warning("the network cannot be recorded on this machine and runs step by step: %s", error)
            self._refused = True
            return None
        self._known[kind] = Recording(again, static, outputs)
        return self._known[kind]


def record_eagerly(run: Callable[[], Tensors]) -> tuple[Again, Tensors]:
    """The twin of :class:`GraphRecorder` on any device: the same static buffers, filled by calling ``run``."""
    outputs = tuple(output.clone() for output in run())

    def again() -> None:
        for static, new in zip(outputs, run(), strict=True):
            static.copy_(new)

    return again, outputs


class GraphRecorder:
    """Captures CUDA graphs, all with memory of one pool: they run one after another, and outputs are copied out."""

    def __init__(self, device: torch.device) -> None:
        """``device``: a GPU."""
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensors]) -> tuple[Again, Tensors]:
        """Capture ``run``, whose inputs stay where they are.

        Raises:
            RuntimeError: it does something that a graph cannot hold.
        """
        computing = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(computing)
        with torch.cuda.stream(self._stream):
            for _ in range(RUNS_BEFORE):
                run()
        computing.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # other threads of the process may go on with whatever they do meanwhile
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = run()
        return cast(Again, graph.replay), outputs
