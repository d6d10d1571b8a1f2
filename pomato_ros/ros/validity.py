"""Keeps pixels that show nothing, as the black corners of a rectified image, out of every output."""

from dataclasses import fields, replace

import cv2
import numpy as np

from pomato_ros.structures import MaskArray, SceneEstimate, TrackSet


def without_invalid(scene: SceneEstimate, valid_source: MaskArray) -> SceneEstimate:
    """The scene with no points, no motion and no tracks where the source image shows nothing.

    Args:
        scene: of the newest frame.
        valid_source: (h, w) pixels of the source image that show the scene.
    """
    valid = at_model(valid_source, scene)
    if valid.all():
        return scene
    return replace(
        scene,
        points_camera=np.where(valid[..., None], scene.points_camera, np.float32(np.nan)),
        confidence=np.where(valid, scene.confidence, np.float32(0.0)),
        dynamic_mask=scene.dynamic_mask & valid,
        tracks=tracks_on(scene.tracks, valid),
    )


def at_model(valid_source: MaskArray, scene: SceneEstimate) -> MaskArray:
    """(h, w) pixels of the network's image all of whose source pixels are valid; a smaller image blends several."""
    height, width = scene.dynamic_mask.shape
    shares = cv2.warpPerspective(
        cv2.boxFilter(valid_source.astype(np.float32), -1, blend_size(scene.model_from_source)),
        np.asarray(scene.model_from_source, np.float64),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(shares > 0.99, bool)


def blend_size(model_from_source: np.ndarray) -> tuple[int, int]:
    """Source pixels, across and down, that one pixel of the network's image is made of."""
    return (
        max(1, int(np.ceil(1.0 / abs(model_from_source[0, 0])))),
        max(1, int(np.ceil(1.0 / abs(model_from_source[1, 1])))),
    )


def tracks_on(tracks: TrackSet, valid: MaskArray) -> TrackSet:
    """The tracks but for those that are seen where nothing is."""
    seen = np.flatnonzero(np.isfinite(tracks.pixels).all(axis=1))
    columns, rows = np.rint(tracks.pixels[seen]).astype(int).T
    height, width = valid.shape
    kept = np.ones(len(tracks.ids), bool)
    kept[seen] = valid[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    names = [field.name for field in fields(tracks)]
    return replace(tracks, **{name: getattr(tracks, name)[kept] for name in names})
