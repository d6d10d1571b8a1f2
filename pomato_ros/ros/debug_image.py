"""One picture that tells how the node is: the image, what moves, and a line of state."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import SceneEstimate, TrackingState

MINIMUM_WIDTH_PX = 480
BAR_HEIGHT_PX = 28
MOVING_BGR = np.array([40, 40, 235], np.float32)
STATE_BGR = {
    TrackingState.WARMING: (60, 190, 255),
    TrackingState.TRACKING: (110, 220, 110),
    TrackingState.LOST: (70, 70, 255),
    TrackingState.RECOVERING: (70, 170, 255),
}


def draw_debug_image(scene: SceneEstimate, rate_hz: float, latency_ms: float | None) -> NDArray[np.uint8]:
    """The (h, w, 3) BGR picture, enlarged so that its text can be read."""
    scale = max(1, -(-MINIMUM_WIDTH_PX // scene.image_rgb.shape[1]))
    canvas = overlay_mask(scene.image_rgb[..., ::-1], scene.dynamic_mask)
    canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    draw_tracks(canvas, scene, scale)
    return np.concatenate([status_bar(canvas.shape[1], scene, rate_hz, latency_ms), canvas], axis=0)


def overlay_mask(image_bgr: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with moving pixels tinted red and outlined."""
    tinted = image_bgr.astype(np.float32)
    tinted[mask] = 0.5 * tinted[mask] + 0.5 * MOVING_BGR
    canvas = np.ascontiguousarray(tinted, np.float32).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(canvas, contours, -1, MOVING_BGR.tolist(), 1), np.uint8)


def draw_tracks(canvas: NDArray[np.uint8], scene: SceneEstimate, scale: int) -> None:
    """A dot on each visible track, red where it moves."""
    tracks = scene.tracks
    seen = tracks.visible & np.isfinite(tracks.pixels).all(axis=1)
    for pixel, dynamic in zip(tracks.pixels[seen], tracks.dynamic[seen], strict=True):
        centre = tuple(int(round(scale * (float(value) + 0.5))) for value in pixel)
        colour: Any = (60, 60, 255) if dynamic else (230, 230, 120)
        cv2.circle(canvas, centre, 2, colour, -1, cv2.LINE_AA)


def status_bar(width_px: int, scene: SceneEstimate, rate_hz: float, latency_ms: float | None) -> NDArray[np.uint8]:
    """State, rate and latency on a dark bar."""
    bar = np.full((BAR_HEIGHT_PX, width_px, 3), 32, np.uint8)
    latency = "-" if latency_ms is None else f"{latency_ms:.0f} ms"
    moving = 100.0 * float(scene.dynamic_mask.mean())
    text = (
        f"{scene.state.value}  {scene.frames_in_window} frames  {rate_hz:.1f} Hz  {latency}  "
        f"moving {moving:.0f}%  {len(scene.tracks.ids)} tracks"
    )
    cv2.putText(bar, text, (8, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, STATE_BGR[scene.state], 1, cv2.LINE_AA)
    return bar
