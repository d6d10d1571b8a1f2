"""Moving masks of real video against DAVIS's annotation: region similarity J of each sequence, mean and recall.

The OpenCV pipeline sees the frames at the network's size, with a focal length of :data:`ASSUMED_FOCAL` long sides.

DAVIS marks the foreground objects, all of which move; what else moves in a video is not marked, so 1 cannot be reached
by everything that is right. Its cameras are not calibrated: the focal length is estimated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.errors import DataError
from pomato_ros.evaluation import opencv_baseline
from pomato_ros.evaluation.metrics.masks import RegionSimilarity, region_similarity
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame

DAVIS_FOLDER = "davis"
FRAME_INTERVAL_NS = 41_666_667  # 24 frames a second
ASSUMED_FOCAL = 1.0  # long sides of the image, 53 degrees across


class SizedPerceiver(Perceiver, Protocol):
    """A running system with the size of its images."""

    @property
    def image_size_px(self) -> int:
        """Long side of the network's input."""


@dataclass(frozen=True, slots=True)
class DavisResult:
    """One sequence, without its first and last frame."""

    name: str
    frames: int
    moving: RegionSimilarity
    all_moving: RegionSimilarity
    opencv: RegionSimilarity


def find_sequences(folder: Path) -> list[Path]:
    """The sequences in ``folder``: each a folder with ``images`` and ``masks``.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(path.parent for path in folder.glob("*/masks") if (path.parent / "images").is_dir())
    if not found:
        raise FileNotFoundError(f"no DAVIS sequence in {folder}: expected NAME/images and NAME/masks there")
    return found


def evaluate_davis(engine: SizedPerceiver, folders: Sequence[Path], advance: Callable[[], None]) -> list[DavisResult]:
    """Each sequence through the engine, from a reset on; ``advance`` is called after each."""
    results = []
    for folder in folders:
        truth = [read_mask(path) for path in sorted((folder / "masks").glob("*.png"))]
        files = sorted((folder / "images").glob("*.jpg"))
        predicted = moving_masks(engine, files)
        if len(truth) != len(predicted) or len(truth) < 3:
            raise DataError(
                f"{folder}: expected a mask for each of three or more images, got {len(truth)} and {len(predicted)}"
            )
        true_inner = np.stack(truth[1:-1])
        results.append(
            DavisResult(
                name=folder.name,
                frames=len(true_inner),
                moving=region_similarity(np.stack(predicted[1:-1]), true_inner),
                all_moving=region_similarity(np.ones_like(true_inner), true_inner),
                opencv=region_similarity(np.stack(opencv_masks(files, engine.image_size_px)[1:-1]), true_inner),
            )
        )
        advance()
    return results


def moving_masks(engine: Perceiver, files: Sequence[Path]) -> list[NDArray[np.bool_]]:
    """The moving mask of each image (h, w), at the image's own size; empty where there was no scene."""
    engine.reset()
    masks = []
    for index, file in enumerate(files):
        image_rgb = read_image(file)
        scene = engine.step(Frame((index + 1) * FRAME_INTERVAL_NS, image_rgb))
        if scene is None:
            masks.append(np.zeros(image_rgb.shape[:2], bool))
        else:
            masks.append(source_mask(scene.dynamic_mask, scene.model_from_source, scene.source_size_wh))
    return masks


def opencv_masks(files: Sequence[Path], long_side_px: int) -> list[NDArray[np.bool_]]:
    """What moves in each image (h, w) by optical flow and essential matrix, at the image's own size."""
    prepared = [
        prepare_frame(Frame((index + 1) * FRAME_INTERVAL_NS, read_image(file)), long_side_px)
        for index, file in enumerate(files)
    ]
    height, width = prepared[0].image_rgb.shape[:2]
    focal_px = ASSUMED_FOCAL * max(height, width)
    camera_matrix = np.array([[focal_px, 0.0, 0.5 * (width - 1)], [0.0, focal_px, 0.5 * (height - 1)], [0.0, 0.0, 1.0]])
    moving = opencv_baseline.perceive([frame.image_rgb for frame in prepared], camera_matrix).moving
    return [
        source_mask(mask, frame.model_from_source, frame.source_size_wh)
        for mask, frame in zip(moving, prepared, strict=True)
    ]


def source_mask(
    mask: NDArray[np.bool_], model_from_source: NDArray[np.float64], source_size_wh: tuple[int, int]
) -> NDArray[np.bool_]:
    """A mask (h, w) of the network's image on the source image (H, W); static where the network saw nothing."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(mask.astype(np.uint8), model_from_source, source_size_wh, flags=flags), bool)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """An annotation (h, w).

    Raises:
        OSError: it cannot be read.
    """
    levels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if levels is None:
        raise OSError(f"could not read {path}; fetch the sequence again")
    return np.asarray(levels > 0, bool)


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image (h, w, 3), RGB.

    Raises:
        OSError: it cannot be read.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise OSError(f"could not read {path}; fetch the sequence again")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
