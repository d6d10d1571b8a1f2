"""Moving masks of real video against DAVIS's annotation: region similarity J of each sequence, mean and recall.

DAVIS marks the foreground objects, all of which move; what else moves in a video is not marked, so 1 cannot be reached
by everything that is right. Its cameras are not calibrated: the focal length is estimated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.masks import RegionSimilarity, region_similarity
from pomato_ros.evaluation.perceiver import Perceiver
from pomato_ros.structures import Frame, SceneEstimate

DAVIS_FOLDER = "davis"
FRAME_INTERVAL_NS = 41_666_667  # 24 frames a second


@dataclass(frozen=True, slots=True)
class DavisResult:
    """One sequence, without its first and last frame."""

    name: str
    frames: int
    moving: RegionSimilarity
    all_moving: RegionSimilarity


def find_sequences(folder: Path) -> list[Path]:
    """The sequences in ``folder``: each a folder with ``images`` and ``masks``.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(path.parent for path in folder.glob("*/masks") if (path.parent / "images").is_dir())
    if not found:
        raise FileNotFoundError(f"no DAVIS sequence in {folder}: expected NAME/images and NAME/masks there")
    return found


def evaluate_davis(engine: Perceiver, folders: Sequence[Path], advance: Callable[[], None]) -> list[DavisResult]:
    """Each sequence through the engine, from a reset on; ``advance`` is called after each."""
    results = []
    for folder in folders:
        truth = [read_mask(path) for path in sorted((folder / "masks").glob("*.png"))]
        predicted = moving_masks(engine, sorted((folder / "images").glob("*.jpg")))
        if len(truth) != len(predicted) or len(truth) < 3:
            raise ValueError(
                f"{folder}: expected a mask for each of three or more images, got {len(truth)} and {len(predicted)}"
            )
        true_inner = np.stack(truth[1:-1])
        results.append(
            DavisResult(
                name=folder.name,
                frames=len(true_inner),
                moving=region_similarity(np.stack(predicted[1:-1]), true_inner),
                all_moving=region_similarity(np.ones_like(true_inner), true_inner),
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
        masks.append(np.zeros(image_rgb.shape[:2], bool) if scene is None else source_mask(scene))
    return masks


def source_mask(scene: SceneEstimate) -> NDArray[np.bool_]:
    """The moving mask (H, W) on the source image; static where the network saw nothing."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = cv2.warpPerspective(
        scene.dynamic_mask.astype(np.uint8), scene.model_from_source, scene.source_size_wh, flags=flags
    )
    return np.asarray(mask, bool)


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
