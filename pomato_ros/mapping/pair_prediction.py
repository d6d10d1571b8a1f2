"""Pointmaps of every edge of a pair graph, each image encoded once, on a network or on anything with its answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.config import ModelOptions
from pomato_ros.hardware import choose_device
from pomato_ros.sources.dust3r.checkpoint import BUNDLED_WEIGHTS, Checkpoint, load_checkpoint
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.sources.dust3r.preprocess import normalise
from pomato_ros.structures import PreparedFrame

FIELDS = ("points_1", "conf_1", "points_2", "conf_2", "points_match", "conf_match")


class PairPredictor(Protocol):
    """What reconstruction needs of a network."""

    def predict_pairs(self, frames: Sequence[PreparedFrame], edges: NDArray[np.int64]) -> PairPrediction:
        """All maps of the edges (e, 2) among ``frames``, which have one size; fp32 on the CPU."""

    def descriptors(self, frames: Sequence[PreparedFrame]) -> NDArray[np.float32]:
        """(n, d) of the images, alike where the images are."""

    @property
    def image_size_px(self) -> int:
        """Long side of the images that it takes."""

    @property
    def identity(self) -> str:
        """Changes whenever its answers may."""


class NetworkPairs:
    """A network of the DUSt3R family with POMATO's three heads, pair by pair."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, batch: int) -> None:
        """``batch``: images or pairs that are evaluated at once, the bound of its memory."""
        self._checkpoint = checkpoint
        self._network = checkpoint.network.to(device).eval()
        self._device = device
        self._batch = batch

    @classmethod
    def from_options(cls, options: ModelOptions, batch: int) -> "NetworkPairs":
        """Load the weights that ``options`` name.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: the device is not there.
        """
        path = Path(options.checkpoint) if options.checkpoint else BUNDLED_WEIGHTS
        checkpoint = load_checkpoint(path, options.checkpoint_sha256, "pomato")
        return cls(checkpoint, choose_device(options.device), batch)

    @property
    def image_size_px(self) -> int:
        """Long side of the images that the weights were trained at."""
        return self._checkpoint.image_size_px

    @property
    def identity(self) -> str:
        """Digest of the weights."""
        return self._checkpoint.sha256

    @torch.inference_mode()
    def predict_pairs(self, frames: Sequence[PreparedFrame], edges: NDArray[np.int64]) -> PairPrediction:
        """See :meth:`PairPredictor.predict_pairs`."""
        tokens = self._encode(frames)
        grid = self._network.grid_of(normalise(frames[0].image_rgb)[None])
        parts = []
        for start in range(0, len(edges), self._batch):
            first, second = torch.from_numpy(edges[start : start + self._batch]).unbind(-1)
            predicted = self._network.predict_maps(tokens[first], tokens[second], grid)
            parts.append([predicted[name].float().cpu() for name in FIELDS])
        return PairPrediction(*(torch.cat(rows) for rows in zip(*parts, strict=True)))

    @torch.inference_mode()
    def descriptors(self, frames: Sequence[PreparedFrame]) -> NDArray[np.float32]:
        """(n, d): the encoder's tokens averaged over the image."""
        return np.asarray(self._encode(frames).mean(dim=1).float().cpu())

    def _encode(self, frames: Sequence[PreparedFrame]) -> Tensor:
        """(n, tokens, c) of all images."""
        images = torch.stack([normalise(frame.image_rgb) for frame in frames])
        pieces = [self._network.encode(part.to(self._device)) for part in images.split(self._batch)]
        return torch.cat(pieces)
