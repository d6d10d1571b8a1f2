"""Owns the network, its device and its precision: Window -> WindowPrediction."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pomato_ros.config import ModelOptions
from pomato_ros.errors import ConfigError, OutOfMemory
from pomato_ros.hardware import choose_device, choose_precision
from pomato_ros.sources.dust3r.checkpoint import BUNDLED_WEIGHTS, Checkpoint, load_checkpoint
from pomato_ros.sources.dust3r.cuda_graphs import GraphRecorder, Recorder, Replays
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.preprocess import network_inputs
from pomato_ros.sources.dust3r.streaming import WindowStream
from pomato_ros.sources.dust3r.transfer import transfer_to
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.structures import Window

BUNDLED_ARCHITECTURE = "pomato"
SMALL_NETWORK = 10_000_000  # parameters
LOGGER = logging.getLogger(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """Evaluates windows, keeping what a frame cost once or, as the slow twin that this must match, every frame anew."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        precision: str,
        reuse: bool = True,
        recorder: Recorder | None = None,
    ) -> None:
        """Move the network of ``checkpoint`` to ``device`` and its large weights to ``precision``.

        Args:
            checkpoint: the network.
            device: where it runs.
            precision: fp32, bf16 or fp16 (autocast; exponentials and norms stay fp32).
            reuse: not the twin.
            recorder: records the pieces of a step, to be replayed; None: they run one operation after the other.
        """
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self._network = hold_weights(checkpoint.network.to(device), DTYPES[precision])
        self._transfer = transfer_to(device)
        self.replays = Replays(recorder) if reuse and recorder is not None else None
        self._stream = WindowStream(self._network, device, self._transfer.up, self.replays) if reuse else None

    @classmethod
    def from_options(cls, options: ModelOptions) -> "Predictor":
        """Load the weights that ``options`` name.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: the device or precision is not there.
        """
        if not options.checkpoint and options.named_backend != BUNDLED_ARCHITECTURE:
            raise ConfigError(
                f"backend {options.named_backend} needs weights: the bundled ones are {BUNDLED_ARCHITECTURE}'s; set "
                "'checkpoint' to a file of yours"
            )
        path = Path(options.checkpoint) if options.checkpoint else BUNDLED_WEIGHTS
        return cls.of_checkpoint(load_checkpoint(path, options.checkpoint_sha256, options.named_backend), options)

    @classmethod
    def of_checkpoint(cls, checkpoint: Checkpoint, options: ModelOptions) -> "Predictor":
        """Run weights that are loaded already as ``options`` say.

        Raises:
            ConfigError: the device or precision is not there.
        """
        if options.num_threads or not torch.cuda.is_available():
            torch.set_num_threads(options.num_threads or paying_threads(checkpoint.network))
        device = choose_device(options.device)
        precision = choose_precision(options.precision, device)
        if device.type == "cuda" and precision == "fp32":
            torch.backends.cudnn.allow_tf32 = False  # convolutions would be in 10 bits by default
        recorder = GraphRecorder(device) if options.compile and device.type == "cuda" else None
        return cls(checkpoint, device, precision, options.reuse, recorder)

    @torch.inference_mode()
    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Both pair orders of ``window`` against its key frame, what is ``wanted`` or all; fp32 on the CPU.

        Raises:
            OutOfMemory: the device has no room for it; nothing is cached any more.
        """
        try:
            with self._autocast():
                return self._transfer.down(self._evaluate(window, wanted))
        except torch.OutOfMemoryError as error:
            self.reset()
            frames, (height, width) = len(window.frames), window.frames[0].size_hw
            raise OutOfMemory(
                f"{self.device} has no room for a window of {frames} frames of {width}x{height} px: {error}; use a "
                "smaller window_size or image_size"
            ) from error

    def _evaluate(self, window: Window, wanted: Wanted | None) -> WindowPrediction:
        if self._stream is not None:
            return self._stream.predict(window, wanted or Wanted(tuple(range(len(window.frames)))))
        return predict_window(self._network, self._transfer.up(network_inputs(window.frames)), window.key)

    def reset(self) -> None:
        """Drop what is cached of frames; what was recorded for their size stays."""
        if self._stream is not None:
            self._stream.forget()

    def describe(self) -> dict[str, Any]:
        """Facts about the model for logs and diagnostics."""
        return {
            "backend": self.checkpoint.network.config.architecture,
            "metric": self.checkpoint.metric,
            "checkpoint": str(self.checkpoint.path),
            "sha256": self.checkpoint.sha256,
            "parameters": sum(parameter.numel() for parameter in self._network.parameters()),
            "temporal_length": self.checkpoint.network.config.temporal_length,
            "image_size_px": self.checkpoint.image_size_px,
            "device": str(self.device),
            "precision": self.precision,
        }

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        # weights are held in this precision already; a cache of casts must not outlive the graph that it is made in
        return torch.autocast(self.device.type, DTYPES[self.precision], cache_enabled=self.device.type != "cuda")


def paying_threads(network: Trunk) -> int:
    """CPU threads that make a step shorter whatever else the machine is at.

    A small network's layers take less time than threads take to meet: two that sleep while they wait need half as long
    again as one, and two that spin many times as long when another process is on their core (dev/LOG.md).
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return 1 if parameters < SMALL_NETWORK else os.cpu_count() or 1


def hold_weights(network: Trunk, dtype: torch.dtype) -> Trunk:
    """Weights of linear layers and convolutions in ``dtype``, as autocast would cast them anew at every step."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.to(dtype)
    return network
