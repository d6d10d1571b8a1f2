"""The scores that are watched during training, on predictions whose scores are known."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.oracle import OraclePredictor, frame_of
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import WindowPrediction
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import render_clip
from pomato_ros.training import validation
from pomato_ros.training.config import TrainConfig


@pytest.fixture
def clip(recipe: TrainConfig) -> Clip:
    return render_clip(2, recipe.world, 6, (48, 32))


def truth(clip: Clip, still: bool) -> WindowPrediction:
    frames = tuple(prepare_frame(frame_of(clip, 0 if still else t), 48) for t in range(len(clip)))
    return OraclePredictor(clip, pair_scale=0.3).predict(Window(frames, key=0))


def scores_of(
    clip: Clip, network: Pomato, monkeypatch: pytest.MonkeyPatch, prediction: WindowPrediction
) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(validation, "predict_window", lambda *_, **__: prediction)
    return validation.score_clip(network, clip, torch.device("cpu"))


def test_the_truth_in_any_scale_has_the_best_scores(
    clip: Clip, tiny_config: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = scores_of(clip, Pomato(tiny_config), monkeypatch, truth(clip, still=False))
    assert scores["absrel"] < 1e-5
    assert scores["transfer"] < 1e-5
    assert scores["absrel_constant"] > 0.05
    assert scores["transfer_still"] > 1e-3


def test_motion_is_told_in_shares_of_how_far_things_moved(
    recipe: TrainConfig, tiny_config: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = dataclasses.replace(recipe.world, mover_probability=1.0, mover_image_share=(0.1, 0.5))
    clip = next(c for c in (render_clip(s, world, 6, (48, 32)) for s in range(40)) if c.moving_mask(5, 0).any())
    told = truth(clip, still=False)
    blind = dataclasses.replace(told.to_key, points_match=told.to_key.points_2)
    for to_key, expected in ((told.to_key, 0.0), (blind, 1.0)):
        prediction = dataclasses.replace(told, to_key=to_key)
        scores = scores_of(clip, Pomato(tiny_config), monkeypatch, prediction)
        assert scores["motion"] == pytest.approx(expected, abs=1e-3)


def test_validation_looks_at_held_out_scenes_in_inference_mode(
    recipe: TrainConfig, make_network: Callable[..., Pomato], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def watched(seed: int, *rest: object) -> Clip:
        seeds.append(seed)
        return render_clip(seed, *rest)

    validation.held_out_clips.cache_clear()
    monkeypatch.setattr(validation, "SCENES", 2)
    monkeypatch.setattr(validation, "render_clip", watched)
    network = make_network(recipe.network)
    scores = validation.validate(network, recipe, recipe.stages[-1], torch.device("cpu"))
    again = validation.validate(network, recipe, recipe.stages[-1], torch.device("cpu"))
    validation.held_out_clips.cache_clear()
    assert again == scores
    assert len(seeds) == 2
    assert min(seeds) >= validation.HELD_OUT_SEED
    assert len(set(seeds)) == 2
    assert not network.training
    assert {"absrel", "absrel_constant", "transfer", "transfer_still", "mask_iou"} <= scores.keys()
    assert all(score == score for score in scores.values())
    assert 0 <= scores["mask_iou"] <= 1
