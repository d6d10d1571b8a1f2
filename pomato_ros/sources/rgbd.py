"""A colour camera with a registered depth camera: metric inverse depth in every frame, from the sensor itself."""

import dataclasses
from typing import Any

import numpy as np

from pomato_ros.config import DEPTH_SENSORS, DepthNoise, PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.sources.base import Capabilities, PredictionRequest
from pomato_ros.sources.depth_noise import measure_depth
from pomato_ros.sources.resize import working_frame
from pomato_ros.structures import Correspondence, FloatArray, Frame, Observation, PreparedFrame, Window

UNIT_FACTOR = 1000.0  # between millimetres and metres
BEYOND_RANGE = 20.0  # times the range's ends, from which no scene but a wrong unit explains the median
SAMPLE_STRIDE = 4


class RgbdSource:
    """Source of the backend ``rgbd``."""

    def __init__(self, config: PomatoConfig) -> None:
        """Take the working size and the noise model from ``config``."""
        self._config = config
        self._noise = sensor_noise(config)

    @property
    def capabilities(self) -> Capabilities:
        """Metric depth; correspondences come from optical flow."""
        return Capabilities(metric=True)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """The frame at the working size, its depth with a standard deviation.

        A frame without a depth image stays one: its pose comes from those before it.

        Raises:
            UnusableFrame: no calibrated colour image, or a depth image of another size or unit.
        """
        prepared, _, resizing = working_frame(frame, self._config, "rgbd")
        if frame.depth_m is None:
            return prepared
        if frame.depth_m.shape != frame.image_rgb.shape[:2]:
            raise UnusableFrame(
                f"expected a depth image registered to the image, {frame.image_rgb.shape[:2]}, got "
                f"{frame.depth_m.shape}; register it first"
            )
        check_unit(frame.depth_m, measurable_range(self._config))
        return dataclasses.replace(prepared, depth=measure_depth(frame.depth_m, self._noise, resizing))

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """The newest frame's own depth."""
        depth = window.frames[-1].depth
        share = 0.0 if depth is None else float(depth.valid.mean())
        return Observation(depth, no_correspondence, facts={"depth_valid_share": share})

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Nothing is prepared ahead."""

    def reset(self) -> None:
        """Nothing is kept of frames."""

    def describe(self) -> dict[str, Any]:
        """Backend, sensor and working size."""
        options = self._config.sensor
        size_px = self._config.window.image_size or options.sensor_image_size
        return {"backend": "rgbd", "depth_sensor": options.depth_sensor, "image_size_px": size_px}


def no_correspondence(_gap: int) -> Correspondence | None:
    """None: a sensor measures no correspondence; optical flow does."""
    return None


def sensor_noise(config: PomatoConfig) -> DepthNoise:
    """The noise model of the sensor that ``config`` names, within the range that it allows."""
    noise, limit_m = DEPTH_SENSORS[config.sensor.depth_sensor], config.sensor.depth_range_max
    if not limit_m:
        return noise
    return dataclasses.replace(noise, range_m=(noise.range_m[0], limit_m))


def measurable_range(config: PomatoConfig) -> tuple[float, float]:
    """Nearest and farthest depth in metres that the named sensor measures, however little of it is used."""
    nearest_m, farthest_m = DEPTH_SENSORS[config.sensor.depth_sensor].range_m
    return nearest_m, max(farthest_m, config.sensor.depth_range_max)


def check_unit(depth_m: FloatArray, range_m: tuple[float, float]) -> None:
    """Refuse a depth image whose unit is wrong by a factor of 1000, as metres and millimetres are confused.

    Raises:
        UnusableFrame: the median of what was measured is far beyond the sensor's range, and within it in the other
            unit.
    """
    sample = depth_m[::SAMPLE_STRIDE, ::SAMPLE_STRIDE]
    with np.errstate(invalid="ignore"):
        measured = sample[(sample > 0) & (sample < np.inf)]
    if not measured.size:
        return
    median_m = float(np.median(measured))
    if median_m > BEYOND_RANGE * range_m[1]:
        mistake = f"{UNIT_FACTOR:g} times too large: millimetres taken for metres? 16UC1 is mm, 32FC1 is m"
    elif median_m < range_m[0] / BEYOND_RANGE:
        mistake = f"{UNIT_FACTOR:g} times too small: metres taken for millimetres? 16UC1 is mm, 32FC1 is m"
    else:
        return
    raise UnusableFrame(
        f"expected depths between {range_m[0]:g} and {range_m[1]:g} m, got a median of {median_m:g} m, about {mistake}"
    )
