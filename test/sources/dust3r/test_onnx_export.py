"""Graphs for other runtimes: onnxruntime gives torch's numbers, for numbers of rows the exporter never saw."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.onnx_export import (
    ExportPlan,
    Graph,
    Run,
    chain,
    exact_expm1,
    graph_error,
    graph_name,
    plan_graphs,
    random_images,
    relative_error,
    sample_inputs,
    window_error,
    write_graph,
)
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.wiring import predict_window

onnxruntime = pytest.importorskip("onnxruntime")
SIZE_WH, WINDOW = (48, 32), 5
GRAPHS = ["encoder", "decoder", *(graph_name(spec) for spec in Pomato.HEADS)]
EXACT = 1e-5


def open_graph(path: Path, graph: Graph) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = {port.name: part.contiguous().numpy() for port, part in zip(graph.inputs, inputs, strict=True)}
        return [torch.from_numpy(part) for part in session.run([port.name for port in graph.outputs], feed)]

    return run


def torch_runs(plan: ExportPlan) -> dict[str, Run]:
    def run_of(graph: Graph) -> Run:
        def run(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            outputs = graph.module(*inputs)
            return (outputs,) if isinstance(outputs, Tensor) else outputs

        return run

    return {graph.name: run_of(graph) for graph in plan_graphs(plan)}


@pytest.fixture(scope="module")
def network(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def pairwise(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(dataclasses.replace(tiny_config, temporal_length=0))


@pytest.fixture(scope="module")
def plan(network: Pomato) -> ExportPlan:
    return ExportPlan(network, SIZE_WH, WINDOW, "newest")


@pytest.fixture(scope="module")
def written(plan: ExportPlan, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Graph, Run]]:
    folder = tmp_path_factory.mktemp("graphs")
    opened = {}
    for graph in plan_graphs(plan):
        write_graph(graph, plan, folder / graph.name)
        opened[graph.name] = (graph, open_graph(folder / graph.name, graph))
    return opened


@pytest.mark.parametrize("name", GRAPHS)
def test_onnxruntime_agrees_with_torch(name: str, plan: ExportPlan, written: dict[str, tuple[Graph, Run]]) -> None:
    graph, run = written[name]
    assert graph_error(graph, plan, run) <= EXACT


def test_graphs_in_a_chain_give_the_slow_twins_window(plan: ExportPlan, written: dict[str, tuple[Graph, Run]]) -> None:
    assert window_error(plan, {name: run for name, (_, run) in written.items()}) <= EXACT


@pytest.mark.parametrize("name", GRAPHS)
def test_ports_have_the_shapes_they_say(name: str, plan: ExportPlan, written: dict[str, tuple[Graph, Run]]) -> None:
    graph, run = written[name]
    inputs = sample_inputs(plan, 4, window_size=3)[name]
    for port, part in (*zip(graph.inputs, inputs, strict=True), *zip(graph.outputs, run(inputs), strict=True)):
        assert tuple(part.shape) == tuple(
            {"window_size": 3}.get(size, 4) if isinstance(size, str) else size for size in port.shape
        )
        assert isinstance(port.shape[0], str)


def test_a_graph_of_other_weights_is_found_out(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato], written: dict[str, tuple[Graph, Run]]
) -> None:
    other = ExportPlan(make_network(tiny_config, 1), SIZE_WH, WINDOW, "newest")
    for graph in plan_graphs(other):
        assert graph_error(graph, other, written[graph.name][1]) > 1e-2
    assert window_error(other, {name: run for name, (_, run) in written.items()}) > 1e-2


@pytest.mark.parametrize(("frames", "rows"), [("newest", [WINDOW - 1]), ("oldest", [0]), ("all", range(WINDOW))])
def test_heads_give_the_frames_that_were_asked_for(network: Pomato, frames: str, rows: Sequence[int]) -> None:
    plan = ExportPlan(network, SIZE_WH, WINDOW, frames)
    images = random_images(plan, WINDOW, seed=3)
    twin = predict_window(network, images, 1)
    for own, truth in zip(chain(plan, torch_runs(plan), images, 1), (twin.from_key, twin.to_key), strict=True):
        assert relative_error(own["points_match"], truth.points_match[list(rows)]) <= EXACT
        assert relative_error(own["conf_1"], truth.conf_1[list(rows)]) <= EXACT


def test_a_pairwise_network_has_windows_of_one_frame(pairwise: Pomato, tmp_path: Path) -> None:
    plan = ExportPlan(pairwise, SIZE_WH, 1, "all")
    graph = plan_graphs(plan)[-1]
    write_graph(graph, plan, tmp_path / "head.onnx")
    assert graph_error(graph, plan, open_graph(tmp_path / "head.onnx", graph)) <= EXACT


def test_expm1_keeps_its_digits_near_zero(tmp_path: Path) -> None:
    class Difference(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.expm1(x)

    x = torch.tensor([-3.0, -1e-4, -1e-12, 0.0, 1e-12, 1e-6, 1e-3, 0.5, 4.0])
    with exact_expm1(), pytest.warns(DeprecationWarning, match="ONNX|feature"):
        torch.onnx.export(Difference(), (x,), str(tmp_path / "d.onnx"), input_names=["x"], dynamo=False)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "d.onnx")).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), torch.expm1(x.double()).float(), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(
    ("size_wh", "window", "frames", "advice"),
    [
        ((50, 32), WINDOW, "newest", "whole patches of 16 px, got 50x32"),
        ((0, 32), WINDOW, "newest", "whole patches"),
        (SIZE_WH, 7, "newest", "1 to 6 with these weights; got 7"),
        (SIZE_WH, 0, "newest", "got 0"),
        (SIZE_WH, WINDOW, "middle", "newest, oldest, all; got 'middle'"),
    ],
)
def test_a_plan_that_does_not_suit_the_network_is_refused(
    network: Pomato, size_wh: tuple[int, int], window: int, frames: str, advice: str
) -> None:
    with pytest.raises(ConfigError, match=advice):
        ExportPlan(network, size_wh, window, frames)


def test_a_pairwise_network_has_no_longer_windows(pairwise: Pomato) -> None:
    with pytest.raises(ConfigError, match="pairwise, each pair stands alone; got 2"):
        ExportPlan(pairwise, SIZE_WH, 2, "newest")


def test_an_output_of_another_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\), got \(3, 2\)"):
        relative_error(torch.zeros(3, 2), torch.zeros(2, 3))
