"""The record that every reader of a recorded camera gives: frames in order, with whatever truth lies beside them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from pomato_ros.structures import Frame, MaskArray, PoseArray


@dataclass(frozen=True, slots=True, eq=False)
class SensorSequence:
    """Frames of one recorded camera, read from disk when they are asked for.

    Attributes:
        name: of the recording.
        layout: which reader it came from.
        stamps_ns: (t,) stamp of each frame, strictly rising.
        read_frame: frame by its number.
        world_from_camera: (t, 4, 4) true camera poses in metres, NaN where unknown; None: no truth.
        read_mask: (h, w) true moving pixels of a frame by its number; None: no truth.
        facts: what the reader found or assumed, for logs and reports.
        close: lets go of open files; leaving a ``with`` statement calls it.
    """

    name: str
    layout: str
    stamps_ns: tuple[int, ...]
    read_frame: Callable[[int], Frame]
    world_from_camera: PoseArray | None = None
    read_mask: Callable[[int], MaskArray] | None = None
    facts: Mapping[str, str | float] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together.

        Raises:
            ValueError: no frame, stamps that do not rise, or another number of poses.
        """
        if not self.stamps_ns or any(np.diff(np.array(self.stamps_ns)) <= 0):
            raise ValueError(
                f"{self.name}: expected one frame or more with strictly rising stamps, got {len(self.stamps_ns)} "
                "frames; check the list of images"
            )
        if self.world_from_camera is not None and self.world_from_camera.shape != (len(self), 4, 4):
            raise ValueError(
                f"{self.name}: expected {len(self)} poses (4, 4), got an array {self.world_from_camera.shape}"
            )

    def __enter__(self) -> "SensorSequence":
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.stamps_ns)

    def __iter__(self) -> Iterator[Frame]:
        """All frames, oldest first."""
        return (self.read_frame(t) for t in range(len(self)))

    def first(self, count: int | None) -> "SensorSequence":
        """The first ``count`` frames; None or more than there are: all."""
        kept = len(self) if count is None else min(count, len(self))
        poses = None if self.world_from_camera is None else self.world_from_camera[:kept]
        return dataclasses.replace(self, stamps_ns=self.stamps_ns[:kept], world_from_camera=poses)
