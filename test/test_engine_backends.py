"""Every network of the family behind the engine, from a weights file to scenes, with small random weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pomato_ros.config import NetworkConfig, PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import CheckpointError, ConfigError
from pomato_ros.sources.dust3r.checkpoint import save_weights
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.structures import Frame

SIZE_WH = (80, 64)


def frames(count: int) -> list[Frame]:
    """One texture that shifts."""
    texture = np.random.default_rng(0).integers(0, 256, (100, 140, 3), np.uint8)
    texture = np.repeat(np.repeat(texture[::4, ::4], 4, 0), 4, 1)
    return [
        Frame(100_000_000 * (t + 1), np.ascontiguousarray(texture[t : t + SIZE_WH[1], 2 * t : 2 * t + SIZE_WH[0]]))
        for t in range(count)
    ]


@pytest.mark.parametrize("architecture", ["mast3r", "d2ust3r", "flow4r"])
def test_scenes_come_from_any_backend(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path, architecture: str
) -> None:
    shape = replace(tiny_config, temporal_length=0, architecture=architecture, desc_hidden_dim=8)
    save_weights(tmp_path / "weights.safetensors", make_network(shape), SIZE_WH[0], {}, torch.float32)
    values = {"backend": architecture, "checkpoint": str(tmp_path / "weights.safetensors"), "device": "cpu"}
    engine = Engine(PomatoConfig().with_values({**values, "window_size": 4, "overlap": 2, "num_threads": 1}))
    assert engine.describe()["backend"] == architecture
    for frame in frames(6):
        scene = engine.step(frame)
        assert scene is not None
        assert scene.stamp_ns == frame.stamp_ns
        assert scene.points_camera.shape == (*scene.image_rgb.shape[:2], 3)
        assert scene.dynamic_mask.shape == scene.image_rgb.shape[:2]
        if scene.world_from_camera is not None:
            assert np.isfinite(scene.world_from_camera).all()
            assert np.isfinite(scene.pose_covariance).all()


def test_a_backend_without_weights_or_with_anothers_says_what_to_do(
    tiny_config: NetworkConfig, make_network: Callable[..., Trunk], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="backend flow4r needs weights: .* set 'checkpoint'"):
        Engine(PomatoConfig().with_values({"backend": "flow4r"}))
    save_weights(tmp_path / "weights.safetensors", make_network(tiny_config), SIZE_WH[0], {}, torch.float32)
    values = {"backend": "mast3r", "checkpoint": str(tmp_path / "weights.safetensors")}
    with pytest.raises(CheckpointError, match="holds a pomato network, expected mast3r"):
        Engine(PomatoConfig().with_values(values))
