"""What evaluation and benchmark need of the running system; the engine fits, and so do fakes."""

from typing import Protocol

from pomato_ros.structures import Frame, SceneEstimate


class Perceiver(Protocol):
    """Frames in, scenes out."""

    def step(self, frame: Frame) -> SceneEstimate | None:
        """Take one frame; its scene, or None if it only joined the window."""

    def reset(self) -> None:
        """Forget window, tracks, pose and scale."""
