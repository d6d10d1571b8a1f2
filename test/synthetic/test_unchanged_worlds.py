"""Scenes of the plain world stay what they were: held-out scores and trained weights were made on them.

``unchanged_worlds.json`` was written by the code of commit 1227d57, before worlds became richer.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig, render_clip

RECORD: dict[str, Any] = json.loads((Path(__file__).parent / "unchanged_worlds.json").read_text())
MEANT_FOR = (RECORD["torch"], RECORD["cpu"])  # other arithmetic rounds otherwise in the last bit
THIS = (torch.__version__, torch.backends.cpu.get_cpu_capability())


@pytest.mark.skipif(THIS != MEANT_FOR, reason=f"bits are those of {MEANT_FOR}, this is {THIS}")
@pytest.mark.parametrize("seed", list(RECORD["clips"]))
def test_a_plain_world_renders_every_bit_as_before(seed: str) -> None:
    clip = render_clip(int(seed), TRAIN_WORLD, 5, (48, 36))
    for name in ("world_from_camera", "depth_m", "instance", "images"):
        digest = hashlib.sha256(getattr(clip, name).contiguous().numpy().tobytes()).hexdigest()[:16]
        assert digest == RECORD["clips"][seed][name], name


@pytest.mark.parametrize("seed", list(RECORD["clips"]))
def test_a_plain_world_is_the_same_scene_on_every_machine(seed: str) -> None:
    clip = render_clip(int(seed), TRAIN_WORLD, 5, (48, 36))
    for name, mean in RECORD["clips"][seed]["means"].items():
        assert float(getattr(clip, name).double().mean()) == pytest.approx(mean, rel=1e-3, abs=1e-6), name


def test_a_world_config_without_arguments_is_the_plain_world() -> None:
    assert WorldConfig() == TRAIN_WORLD
