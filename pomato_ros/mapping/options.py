"""Every default of offline reconstruction, with its unit and range."""

from dataclasses import dataclass

from pomato_ros.config import option

GRAPHS = ("complete", "window", "reference", "logarithmic", "retrieval")


@dataclass(frozen=True, slots=True)
class PairOptions:
    """Which images of a sequence are paired."""

    graph: str = option("window", "which pairs are evaluated", choices=GRAPHS)
    neighbours: int = option(5, "neighbours of an image on each side: of a window, or found by retrieval", minimum=1)
    stride: int = option(2, "from one neighbour of a window to the next: 1, 1 + stride, 1 + 2 stride ...", minimum=1)
    cyclic: bool = option(False, "the last image is followed by the first")
    both_orders: bool = option(True, "each pair is evaluated in both orders")


@dataclass(frozen=True, slots=True)
class AlignmentOptions:
    """How the unknowns of global alignment are solved for."""

    iterations: int = option(300, "steps of Adam", minimum=0)
    learning_rate: float = option(0.01, "of the first step", minimum=0.0)
    last_learning_rate: float = option(1e-3, "of the last step", minimum=0.0)
    schedule: str = option("linear", "from the first to the last learning rate", choices=("linear", "cosine"))
    shared_focal: bool = option(True, "all images have one focal length")
    smoothness_weight: float = option(0.01, "of camera motion between neighbours in time", minimum=0.0)
    translation_weight: float = option(1.0, "of translation beside rotation in that motion", minimum=0.0)
    flow_weight: float = option(0.01, "of optical flow on what stands still", minimum=0.0)
    flow_start: float = option(0.1, "share of the steps after which flow counts", minimum=0.0, maximum=1.0)
    flow_limit: float = option(25.0, "a flow term above it is left out of the step", minimum=0.0)
    pixels: int = option(3072, "at most so many pixels of an image are aligned; depth keeps every pixel", minimum=16)
    min_confidence: float = option(3.0, "points below it found no pose", minimum=1.0)
    mask_moving: bool = option(True, "pixels that the matching pointmap finds moving have no weight")
    moving_threshold: float = option(3.0, "a pixel moves beyond so many medians of the image's motion", minimum=0.0)
    moving_floor: float = option(0.08, "and beyond this share of its distance", minimum=0.0)


@dataclass(frozen=True, slots=True)
class ReconstructionOptions:
    """How a long sequence is cut and fused."""

    chunk: int = option(80, "frames that are aligned together", unit="frames", minimum=3)
    overlap: int = option(20, "frames that neighbouring chunks share", unit="frames", minimum=2)
    stride: int = option(1, "every so many frames of the source are used", unit="frames", minimum=1)
    max_frames: int = option(0, "frames that are read at most; 0: all", unit="frames", minimum=0)
    batch: int = option(8, "pairs that the network evaluates at once", minimum=1)
