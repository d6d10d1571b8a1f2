"""The predictor: the network it runs, where and how exactly, and the choices it refuses."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pomato_ros.config import ModelOptions, NetworkConfig
from pomato_ros.errors import CheckpointError
from pomato_ros.sources.dust3r.checkpoint import Checkpoint, file_sha256, save_weights
from pomato_ros.sources.dust3r.cuda_graphs import record_eagerly
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.position import kept_code, kept_rotary
from pomato_ros.sources.dust3r.prediction import PairPrediction, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import network_inputs, prepare_frame
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.structures import Frame, Window

OUTPUTS = [item.name for item in dataclasses.fields(PairPrediction)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(tiny_config: NetworkConfig, make_network: Callable[..., Pomato]) -> Pomato:
    return make_network(tiny_config)


@pytest.fixture(scope="module")
def weights(network: Pomato, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, network, 64, {}, torch.float32)
    return path


@pytest.fixture(autouse=True)
def threads_as_before() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def options(weights: Path, **changes: object) -> ModelOptions:
    return dataclasses.replace(ModelOptions(checkpoint=str(weights), device="cpu", num_threads=1), **changes)


def window(count: int = 3, key: int = 0) -> Window:
    generator = np.random.default_rng(0)
    frames = [Frame(n, generator.integers(0, 255, (48, 64, 3)).astype(np.uint8)) for n in range(count)]
    return Window(tuple(prepare_frame(frame, 64) for frame in frames), key)


def halves(prediction: WindowPrediction) -> dict[str, torch.Tensor]:
    both = {"from": prediction.from_key, "to": prediction.to_key}
    return {f"{order} {name}": getattr(half, name) for order, half in both.items() for name in OUTPUTS}


@pytest.mark.parametrize("key", [0, 2])
def test_a_window_is_predicted_as_the_network_alone_does(network: Pomato, weights: Path, key: int) -> None:
    seen = window(key=key)
    prediction = Predictor.from_options(options(weights, precision="fp32")).predict(seen)
    images = torch.stack(network_inputs(seen.frames))
    expected = halves(predict_window(network, images, key))
    assert prediction.key == key
    for name, value in halves(prediction).items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_near_single_and_comes_back_as_single(weights: Path, precision: str) -> None:
    exact = halves(Predictor.from_options(options(weights, precision="fp32")).predict(window()))
    rough = halves(Predictor.from_options(options(weights, precision=precision)).predict(window()))
    for name, value in rough.items():
        assert value.dtype is torch.float32
        assert value.device == CPU
        assert not value.requires_grad
        assert not torch.equal(value, exact[name])
        assert (value - exact[name]).norm() < 0.1 * exact[name].norm()


@torch.inference_mode()
def test_weights_held_in_half_precision_give_what_autocast_gives(network: Pomato, weights: Path) -> None:
    seen = window()
    found = halves(Predictor.from_options(options(weights, precision="bf16", reuse=False)).predict(seen))
    with torch.autocast("cpu", torch.bfloat16):
        expected = halves(predict_window(network, torch.stack(network_inputs(seen.frames)), 0))
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0)


def test_the_facts_name_the_weights_and_how_they_run(network: Pomato, weights: Path) -> None:
    facts = Predictor.from_options(options(weights, precision="bf16")).describe()
    assert facts == {
        "backend": "pomato",
        "metric": False,
        "checkpoint": str(weights),
        "sha256": file_sha256(weights),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "temporal_length": network.config.temporal_length,
        "image_size_px": 64,
        "device": "cpu",
        "precision": "bf16",
    }


def test_the_number_of_threads_is_taken_over(weights: Path) -> None:
    Predictor.from_options(options(weights, num_threads=2))
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="threads are left alone where there is a GPU")
@pytest.mark.parametrize(("small", "threads"), [(0, 3), (10**9, 1)])
def test_no_number_of_threads_means_all_cores_but_for_a_small_network(
    weights: Path, monkeypatch: pytest.MonkeyPatch, small: int, threads: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("pomato_ros.sources.dust3r.predictor.SMALL_NETWORK", small)
    Predictor.from_options(options(weights, num_threads=0))
    assert torch.get_num_threads() == threads


def test_weights_that_cannot_be_used_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights file"):
        Predictor.from_options(options(tmp_path / "none.safetensors"))
    with pytest.raises(CheckpointError, match="has SHA-256"):
        Predictor.from_options(options(weights, checkpoint_sha256="0" * 64))


def test_a_predictor_that_records_says_the_same_and_forgets_frames_only(network: Pomato) -> None:
    checkpoint = Checkpoint(network, 64, Path("tiny"), "", {})
    plain, recording = (Predictor(checkpoint, CPU, "fp32", recorder=how) for how in (None, record_eagerly))
    assert plain.replays is None
    assert recording.replays is not None
    for _ in range(3):
        recording.reset()
        expected, found = halves(plain.predict(window())), halves(recording.predict(window()))
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], atol=0, rtol=0)
    assert recording.replays.count > 0


def test_tables_of_places_made_while_predicting_serve_training_as_well(tiny_config: NetworkConfig) -> None:
    network = Pomato(dataclasses.replace(tiny_config, position_code=0.5))
    kept_rotary.cache_clear()
    kept_code.cache_clear()
    with torch.inference_mode():
        network.encode(torch.zeros(1, 3, 32, 48))
    network.encode(torch.zeros(1, 3, 32, 48)).sum().backward()
    assert network.patch_embed.proj.weight.grad is not None
