"""MASt3R: DUSt3R's two pointmap heads, each with descriptors to match images by."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.heads import HeadSpec, Maps
from pomato_ros.sources.dust3r.local_features import DescriptorHead
from pomato_ros.sources.dust3r.matching import Matches, inside_border, reciprocal_matches, values_at
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.trunk import Trunk

MATCHED_MAPS = ("points_1", "conf_1", "desc_1", "desc_2")
MATCH_STEP_PX = 8  # between the walks' starts
MATCH_REACH_PX = 8.0  # a pixel moves as its nearest match does, as far as this


class Mast3r(Trunk):
    """MASt3R. Maps: points_v, conf_v, desc_v and desc_conf_v of both views; points of both in camera 1."""

    HEADS = (
        HeadSpec(1, "downstream_head1", 0, ("points_1", "conf_1", "desc_1", "desc_conf_1")),
        HeadSpec(2, "downstream_head2", 1, ("points_2", "conf_2", "desc_2", "desc_conf_2")),
    )

    OUTPUT_RULES = {**Trunk.OUTPUT_RULES, "head_type": "catmlp+dpt"}

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network."""
        super().__init__(config)
        self.downstream_head1 = DescriptorHead(config)
        self.downstream_head2 = DescriptorHead(config)

    @classmethod
    def described_entries(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """As :class:`Trunk`; width and confidence of descriptors from the call, the hidden layer from the weights.

        The public training demo names no ``desc_conf_mode``, which then is ``conf_mode``.
        """
        output_mode = str(values.get("output_mode", "pts3d+desc24"))
        width = re.fullmatch(r"pts3d\+desc(\d+)", output_mode)
        if width is None:
            raise ConfigError(f"expected output_mode='pts3d+desc<width>', got {output_mode!r}; no such head is built")
        super().described_entries({**values, "output_mode": "pts3d"}, tensors)
        mode = values.get("desc_conf_mode", values.get("conf_mode", ("exp", 1, math.inf)))
        if not isinstance(mode, tuple) or len(mode) != 3 or mode[0] != "exp" or mode[2] != math.inf:
            raise ConfigError(f"expected desc_conf_mode=('exp', <least>, inf), got {mode!r}; no such head is built")
        hidden = [value for name, value in tensors.items() if name.endswith("head_local_features.fc1.bias")]
        return {
            "desc_dim": int(width[1]),
            "two_confs": values.get("two_confs", False),
            "desc_conf_min": mode[1],
            "desc_hidden_dim": hidden[0].shape[0] if hidden else 0,
        }

    def own_wanted(self, wanted: Wanted) -> Wanted:
        """As :class:`Trunk`: matches need the descriptors of both views of a pass."""
        orders = (wanted.from_key_heads, wanted.to_key_heads)
        from_key, to_key = (tuple(sorted({1, 2} if 3 in heads else set(heads))) for heads in orders)
        return dataclasses.replace(wanted, from_key_heads=from_key, to_key_heads=to_key)

    def three_maps(self, number: int, own: Maps, other: Maps) -> tuple[Tensor, Tensor]:
        """As :class:`Trunk`: X_m^{2,1} is X^{1,1} at the pixel that a pixel of view 2 matches; NaN where none is."""
        if number < 3:
            return own[f"points_{number}"], own[f"conf_{number}"]
        rows = [matched_points(*(own[name][row] for name in MATCHED_MAPS)) for row in range(len(own["points_1"]))]
        points, conf = zip(*rows, strict=True)
        return torch.stack(points), torch.stack(conf)


def matched_points(points_1: Tensor, conf_1: Tensor, desc_1: Tensor, desc_2: Tensor) -> tuple[Tensor, Tensor]:
    """X^{1,1} and its confidence at the pixels of view 1 that those of view 2 match, NaN and 1 where there is no match.

    A pixel moves as the nearest match within :data:`MATCH_REACH_PX` does.

    Args:
        points_1: (h, w, 3).
        conf_1: (h, w).
        desc_1: (h, w, d) of view 1.
        desc_2: (h, w, d) of view 2.
    """
    matches = reciprocal_matches(desc_2, desc_1, MATCH_STEP_PX)
    sizes = [(desc.shape[0], desc.shape[1]) for desc in (desc_2, desc_1)]
    places, known = dense_places(matches.select(inside_border(matches, sizes[0], sizes[1])), *sizes)
    at, has = torch.from_numpy(places).to(points_1.device), torch.from_numpy(known).to(points_1.device)
    points = torch.where(has[..., None], values_at(points_1, at.flatten(0, 1)).view(*has.shape, 3), torch.nan)
    return points, torch.where(has, values_at(conf_1, at.flatten(0, 1)).view(has.shape), 1.0)


def dense_places(
    matches: Matches, size_hw: tuple[int, int], other_hw: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixels (h, w, 2) of the other image that an image's pixels match, and whether there is a match at all (h, w)."""
    free = np.ones(size_hw, np.uint8)
    own, there = (np.asarray(pixels.cpu()) for pixels in (matches.pixels_1, matches.pixels_2))
    if not len(own):
        return np.zeros((*size_hw, 2), np.int64), np.zeros(size_hw, bool)
    free[own[:, 1], own[:, 0]] = 0
    distance, label = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    offsets = np.zeros((label.max() + 1, 2), np.int64)
    offsets[label[own[:, 1], own[:, 0]]] = there - own
    y, x = np.indices(size_hw)
    places = np.stack((x, y), axis=-1) + offsets[label]
    limit = np.array((other_hw[1], other_hw[0])) - 1
    known = (distance <= MATCH_REACH_PX) & ((places >= 0) & (places <= limit)).all(-1)
    return np.clip(places, 0, limit), known
