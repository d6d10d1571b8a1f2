"""The network as graphs for other runtimes: encoder, decoder pair and each head with its motion modules, as ONNX.

A graph is cut where the stream keeps something (:mod:`pomato_ros.sources.dust3r.streaming`): a frame's encoder tokens,
a pair's decoder tokens. Whoever runs the graphs keeps these tensors between frames; the graphs have no state.

    images -> [encoder] -> tokens;  tokens of two frames -> [decoder] -> tokens by depth of both views
    tokens by depth of one view, for each frame of a window -> [head] -> points, confidence

Number of frames, pairs and windows and the windows' length are free; the image's size is not.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.heads import HeadSpec, Maps
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.sources.dust3r.wiring import window_maps

OPSET = 17  # the first with layer norms; TensorRT reads it from 8.6 on
TRACED_ROWS = 2  # one or none could be taken for a constant
CHECKED_ROWS = (1, 3)
FRAMES = {"newest": (-1,), "oldest": (0,), "all": None}  # whose pointmaps a head gives: slots of the window
Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]  # evaluates a graph: its inputs -> its outputs, in order
Runs = dict[str, Run]  # by name of the graph


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output, fp32; a word in ``shape`` is a size that is free."""

    name: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX file to be."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """What is fixed in the graphs of ``network``.

    ``size_wh``: of the images, px, whole patches. ``window_size``: most frames of a window, 1 for a pairwise network.
    ``frames``: a key of :data:`FRAMES`.
    """

    network: Trunk
    size_wh: tuple[int, int]
    window_size: int
    frames: str

    def __post_init__(self) -> None:
        """Refuse what the network cannot do.

        Raises:
            ConfigError: sizes or frames that do not suit the network.
        """
        length, patch = self.network.config.temporal_length, self.network.config.patch_size
        longest = length or 1
        if not 1 <= self.window_size <= longest:
            what = "" if length else ": they are pairwise, each pair stands alone"
            raise ConfigError(f"window must be 1 to {longest} with these weights{what}; got {self.window_size}")
        if self.frames not in FRAMES:
            raise ConfigError(f"frames must be one of {', '.join(FRAMES)}; got '{self.frames}'")
        if min(self.size_wh) < patch or any(side % patch for side in self.size_wh):
            width, height = self.size_wh
            raise ConfigError(f"image size must be whole patches of {patch} px, got {width}x{height}")

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        patch = self.network.config.patch_size
        return self.size_wh[1] // patch, self.size_wh[0] // patch

    @property
    def slots(self) -> tuple[int, ...] | None:
        """The frames of a window that a head gives, or all."""
        return FRAMES[self.frames]


class EncoderGraph(nn.Module):
    """Images (f, 3, h, w) -> tokens (f, n, c)."""

    def __init__(self, plan: ExportPlan) -> None:
        """Of the plan's network."""
        super().__init__()
        self.network = plan.network

    def forward(self, images: Tensor) -> Tensor:
        """As :meth:`Trunk.encode`."""
        return self.network.encode(images)


class DecoderGraph(nn.Module):
    """Encoder tokens of both views (p, n, c) -> the decoder's tokens at the depths the heads read, view 1 first."""

    def __init__(self, plan: ExportPlan) -> None:
        """Of the plan's network."""
        super().__init__()
        self.network = plan.network
        self.grid_hw = plan.grid_hw

    def forward(self, tokens_1: Tensor, tokens_2: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`Trunk.decode`, without depth 0, which is the input."""
        lists = self.network.decode(tokens_1, tokens_2, self.grid_hw)
        return tuple(view[depth] for view in lists for depth in self.network.kept_depths[1:])


class HeadGraph(nn.Module):
    """Tokens of one view at the depths that a head reads, (b, t, n, c) each -> its maps, (b * k, h, w, ...) each."""

    def __init__(self, plan: ExportPlan, spec: HeadSpec) -> None:
        """The head of ``spec``."""
        super().__init__()
        self.head = plan.network.head(spec)
        self.grid_hw, self.slots = plan.grid_hw, plan.slots

    def forward(self, *depths: Tensor) -> tuple[Tensor, ...]:
        """As :class:`pomato_ros.sources.dust3r.heads.Head`; k frames of each of b windows."""
        tokens = {hook: depth.flatten(0, 1) for hook, depth in zip(self.head.hooks, depths, strict=True)}
        return self.head(tokens, self.grid_hw, depths[0].shape[1], slots=self.slots)


def plan_graphs(plan: ExportPlan) -> list[Graph]:
    """Encoder, decoder and heads, in this order."""
    network = plan.network
    width, height = plan.size_wh
    count = plan.grid_hw[0] * plan.grid_hw[1]
    encoded = (count, network.width_at(0))
    encoder = Graph(
        "encoder",
        EncoderGraph(plan),
        (Port("images", ("frames", 3, height, width)),),
        (Port("tokens", ("frames", *encoded)),),
    )
    decoder = Graph(
        "decoder",
        DecoderGraph(plan),
        tuple(Port(f"tokens_{view}", ("pairs", *encoded)) for view in (1, 2)),
        tuple(
            Port(f"view_{view}_depth_{depth}", ("pairs", count, network.width_at(depth)))
            for view in (1, 2)
            for depth in network.kept_depths[1:]
        ),
    )
    return [encoder, decoder, *(head_graph(plan, spec) for spec in network.HEADS)]


def head_graph(plan: ExportPlan, spec: HeadSpec) -> Graph:
    """The graph of one head, named after the first of its maps."""
    head = plan.network.head(spec)
    width, height = plan.size_wh
    count = plan.grid_hw[0] * plan.grid_hw[1]
    length: int | str = plan.window_size if plan.window_size == 1 else "window_size"
    rows = "windows" if plan.window_size == 1 or plan.slots else "rows"
    samples = head.maps_of(torch.zeros(1, head.channels, 1, 1))
    return Graph(
        graph_name(spec),
        HeadGraph(plan, spec),
        tuple(Port(f"depth_{d}", ("windows", length, count, plan.network.width_at(d))) for d in head.hooks),
        tuple(
            Port(name, (rows, height, width, *sample.shape[3:]))
            for name, sample in zip(spec.maps, samples, strict=True)
        ),
    )


def graph_name(spec: HeadSpec) -> str:
    """``head_points_1``."""
    return f"head_{spec.maps[0]}"


@torch.no_grad()
def write_graph(graph: Graph, plan: ExportPlan, path: Path) -> None:
    """Write one ONNX file with its weights inside.

    Torch's tracing exporter does it: the newer one takes the length of every axis of a motion module for a constant.

    Raises:
        RuntimeError: torch cannot express the graph.
    """
    free = {
        port.name: {axis: size for axis, size in enumerate(port.shape) if isinstance(size, str)}
        for port in (*graph.inputs, *graph.outputs)
    }
    with warnings.catch_warnings(), exact_expm1():
        warnings.simplefilter("ignore")  # of values that become constants (sizes are) and of the exporter's age
        torch.onnx.export(
            graph.module.eval(),
            tuple(sample_inputs(plan, TRACED_ROWS)[graph.name]),
            str(path),
            input_names=[port.name for port in graph.inputs],
            output_names=[port.name for port in graph.outputs],
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )


@contextmanager
def exact_expm1() -> Iterator[None]:
    """Let the exporter write ``expm1(x) = tanh(x / 2) * (exp(x) + 1)``, as exact near 0 as the original."""

    def symbolic(graph: Any, x: Any) -> Any:
        half, one = (graph.op("Constant", value_t=torch.tensor(value)) for value in (0.5, 1.0))
        return graph.op("Mul", graph.op("Tanh", graph.op("Mul", x, half)), graph.op("Add", graph.op("Exp", x), one))

    torch.onnx.utils.register_custom_op_symbolic("aten::expm1", symbolic, OPSET)
    try:
        yield
    finally:
        torch.onnx.utils.unregister_custom_op_symbolic("aten::expm1", OPSET)


@torch.no_grad()
def sample_inputs(plan: ExportPlan, rows: int, seed: int = 0, window_size: int = 0) -> dict[str, list[Tensor]]:
    """Inputs of every graph, ``rows`` of them: images of noise and what the network makes of these; 0: the longest."""
    network, frames = plan.network, window_size or plan.window_size
    images = random_images(plan, max(rows, frames) + 1, seed)
    tokens = network.encode(images)
    pairs = tokens[1:], tokens[:1].expand(len(tokens) - 1, -1, -1)
    lists = network.decode(*pairs, plan.grid_hw)
    # windows that hold the same frames, each beginning with another
    order = torch.stack([torch.arange(frames).roll(row) for row in range(rows)])
    return {
        "encoder": [images[:rows]],
        "decoder": [part[:rows].contiguous() for part in pairs],
        **{
            graph_name(spec): [lists[spec.view][depth][order] for depth in network.head(spec).hooks]
            for spec in network.HEADS
        },
    }


def random_images(plan: ExportPlan, count: int, seed: int) -> Tensor:
    """(count, 3, h, w) of noise in [-1, 1]."""
    width, height = plan.size_wh
    return 2 * torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed)) - 1


@torch.no_grad()
def graph_error(graph: Graph, plan: ExportPlan, run: Run) -> float:
    """Largest relative error of ``run`` against torch, with numbers of rows that the exporter never saw."""
    worst = 0.0
    for rows, window_size in zip(CHECKED_ROWS, (plan.window_size, (plan.window_size + 1) // 2), strict=True):
        inputs = sample_inputs(plan, rows, rows, window_size)[graph.name]
        truth = graph.module(*inputs)
        truths = (truth,) if isinstance(truth, Tensor) else truth
        worst = max(worst, *(relative_error(part, own) for part, own in zip(run(inputs), truths, strict=True)))
    return worst


@torch.no_grad()
def window_error(plan: ExportPlan, runs: Runs) -> float:
    """Largest relative error of all graphs in a chain against the slow twin, for both pair orders of one window."""
    images = random_images(plan, plan.window_size, seed=7)
    key = plan.window_size - 1 if plan.frames == "oldest" else 0
    rows = list(plan.slots or range(plan.window_size))
    twin = window_maps(plan.network, images, key)
    chained = chain(plan, runs, images, key)
    return max(
        relative_error(own[name], whole[rows])
        for own, truth in zip(chained, (twin.from_key, twin.to_key), strict=True)
        for name, whole in truth.items()
    )


def chain(plan: ExportPlan, runs: Runs, images: Tensor, key: int) -> tuple[Maps, Maps]:
    """A window (t, 3, h, w) through all graphs: pairs from the key and to it, one row for each frame of the plan."""
    depths = plan.network.kept_depths
    (tokens,) = runs["encoder"]([images])
    keys = tokens[key : key + 1].expand_as(tokens)
    parts = torch.cat((tokens, keys)), torch.cat((keys, tokens))
    decoded = runs["decoder"](parts)
    deep = len(depths) - 1
    views = [
        dict(zip(depths, (part, *decoded[number * deep : (number + 1) * deep]), strict=True))
        for number, part in enumerate(parts)
    ]
    from_key: Maps = {}
    to_key: Maps = {}
    for spec in plan.network.HEADS:
        hooks = plan.network.head(spec).hooks
        windows = [views[spec.view][depth].unflatten(0, (2, plan.window_size)) for depth in hooks]
        for name, both in zip(spec.maps, runs[graph_name(spec)](windows), strict=True):
            from_key[name], to_key[name] = both.chunk(2)
    return from_key, to_key


def relative_error(found: Tensor, truth: Tensor) -> float:
    """``max |found - truth| / max |truth|``.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != truth.shape:
        raise ValueError(f"expected an output of shape {tuple(truth.shape)}, got {tuple(found.shape)}")
    return float((found - truth).abs().max() / truth.abs().max())
