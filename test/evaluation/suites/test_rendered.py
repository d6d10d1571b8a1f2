"""Rendered sequences come back from the cache as they were rendered, and every sensor sees the same scene."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pomato_ros.evaluation.suites.rendered import RenderPlan, rendered_sequence, rendered_sequences, seeds_of
from pomato_ros.training.config import HELD_OUT_SEED


def plan(cache: Path | None) -> RenderPlan:
    return RenderPlan(HELD_OUT_SEED, sequences=1, frames=3, size_wh=(40, 32), cache=cache)


def test_the_cache_gives_back_what_was_rendered(tmp_path: Path) -> None:
    fresh = rendered_sequence(plan(None), "ordinary", HELD_OUT_SEED, right=True)
    first = rendered_sequence(plan(tmp_path), "ordinary", HELD_OUT_SEED, right=True)
    written = sorted(tmp_path.rglob("*.safetensors"))
    again = rendered_sequence(plan(tmp_path), "ordinary", HELD_OUT_SEED, right=True)
    assert len(written) == 2
    assert fresh.right_rgb is not None
    for other in (first, again):
        assert other.right_rgb is not None
        torch.testing.assert_close(other.clip.images, fresh.clip.images)
        torch.testing.assert_close(other.sensed_m, fresh.sensed_m, equal_nan=True)
        torch.testing.assert_close(other.right_rgb, fresh.right_rgb)
        torch.testing.assert_close(other.clip.world_from_camera, fresh.clip.world_from_camera)


def test_every_kind_has_sequences_with_frames_of_each_sensor() -> None:
    kinds = []
    for sequence in rendered_sequences(plan(None), ("ordinary", "nothing", "still")):
        kinds.append(sequence.kind)
        frame = sequence.rgbd_frame(1)
        assert frame.depth_m is not None
        assert frame.depth_m.shape == frame.image_rgb.shape[:2]
        np.testing.assert_allclose(sequence.first_from_camera()[0], np.eye(4), atol=1e-12)
        with pytest.raises(ValueError, match="right images"):
            sequence.stereo_frame(0)
    assert kinds == ["ordinary", "nothing", "still"]


def test_nothing_moves_where_nothing_should_and_the_camera_rests_where_it_should() -> None:
    nothing = rendered_sequence(plan(None), "nothing", seeds_of(plan(None), "nothing")[0])
    still = rendered_sequence(plan(None), "still", seeds_of(plan(None), "still")[0])
    assert not nothing.moving().any()
    assert np.abs(still.first_from_camera() - np.eye(4)).max() < 1e-6
