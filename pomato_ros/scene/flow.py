"""One dense optical flow a frame, shared by everything that compares frames.

:class:`FlowCache` keeps the last frames and finds flow when it is asked for. Flow over several frames starts from the
chain of flows between consecutive frames, so that large displacements lie within the reach of the search. The check
forward and backward marks occlusions; its residual, the spread of flow among neighbours and the image's texture give a
standard deviation (:class:`pomato_ros.config.FlowPreset`). What was asked before does not change an answer.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import FLOW_PRESETS, FlowPreset, FlowTuning
from pomato_ros.errors import UnusableFrame
from pomato_ros.structures import Correspondence, FloatArray, MaskArray

Scalar = TypeVar("Scalar", bound=np.generic)
LEAST_SIDE_PX = 64  # narrower images are continued by their edges: DIS needs a patch at its coarsest level
CHAIN_STRIDE_PX = 4  # grid of the chained flow; a start of the search needs no more
SPREAD_PX = 5  # side of the neighbourhood whose flow is compared
TEXTURE_PX = 7  # side of the structure tensor's window
EIGENVALUE_UNIT = (255 / 2) ** 2  # grey levels^2 a pixel^2 of what cv2.cornerMinEigenVal gives for 8-bit images


@dataclass(frozen=True, slots=True, eq=False)
class _CachedFrame:
    """A frame at the size that flow is found in."""

    number: int  # consecutive since the last reset
    stamp_ns: int
    gray: NDArray[np.uint8]  # (h, w)
    valid: MaskArray | None  # (h, w)


class FlowCache:
    """Dense correspondences from the newest frame to earlier ones, found once and kept while they are of use."""

    def __init__(self, tuning: FlowTuning | None = None) -> None:
        """An empty cache.

        Args:
            tuning: preset, number of frames, sizes and gates; None: the defaults.
        """
        self._tuning = tuning or FlowTuning()
        self._preset = FLOW_PRESETS[self._tuning.preset]
        self._search, self._continue = _dis(self._preset), _dis(self._preset)  # without and with a start
        self.reset()

    def reset(self) -> None:
        """Remove all frames."""
        self._frames: deque[_CachedFrame] = deque(maxlen=self._tuning.max_gap + 1)  # newest first
        self._size_wh: tuple[int, int] | None = None
        self._halvings = 0
        self._chains: dict[tuple[int, int], FloatArray] = {}  # coarse flow between consecutive frames, by their numbers
        self._flows: dict[tuple[int, int], FloatArray] = {}  # to and from the newest frame, by numbers of frames
        self._answers: dict[int, Correspondence] = {}  # of the newest frame, by gap
        self._texture: FloatArray | None = None  # of the newest frame

    @property
    def frame_count(self) -> int:
        """Frames kept: gaps up to one less can be asked for."""
        return len(self._frames)

    def stamp_ns(self, gap: int) -> int:
        """The time of the frame ``gap`` frames before the newest one."""
        return self._frames[gap].stamp_ns

    def push(self, stamp_ns: int, gray: NDArray[np.uint8], valid: MaskArray | None = None) -> None:
        """Add the newest frame.

        Args:
            stamp_ns: its time, later than the last one's.
            gray: (h, w), of one size from reset to reset; it must not be written to afterwards.
            valid: (h, w) pixels that show the scene; None: all.

        Raises:
            UnusableFrame: the time does not rise or the size differs; the cache is as before.
        """
        self._check(stamp_ns, gray)
        if self._size_wh is None:
            self._size_wh = gray.shape[1], gray.shape[0]
            self._halvings = _halvings(max(gray.shape), self._tuning.max_side_px)
        small = gray
        for _ in range(self._halvings):
            small = cv2.resize(small, _half(small.shape), interpolation=cv2.INTER_AREA)
        small_valid = None if valid is None else _resized_mask(valid, small.shape)
        number = self._frames[0].number + 1 if self._frames else 0
        self._frames.appendleft(_CachedFrame(number, stamp_ns, small, small_valid))
        oldest = self._frames[-1].number
        self._chains = {pair: flow for pair, flow in self._chains.items() if min(pair) >= oldest}
        self._flows.clear()
        self._answers.clear()
        self._texture = None

    def _check(self, stamp_ns: int, gray: NDArray[np.uint8]) -> None:
        """Raise :class:`UnusableFrame` for a frame that does not continue the stream."""
        if gray.ndim != 2 or gray.dtype != np.uint8 or not gray.size:
            raise UnusableFrame(f"expected a gray image (h, w) of 8 bits, got {gray.shape} {gray.dtype}; convert it")
        if self._frames and stamp_ns <= self._frames[0].stamp_ns:
            raise UnusableFrame(
                f"expected a stamp after {self._frames[0].stamp_ns} ns, got {stamp_ns} ns; skip the frame, or reset"
            )
        if self._size_wh is not None and self._size_wh != (gray.shape[1], gray.shape[0]):
            raise UnusableFrame(
                f"expected an image of {self._size_wh[0]}x{self._size_wh[1]} px, got {gray.shape[1]}x{gray.shape[0]}; "
                "reset before the size changes"
            )

    def correspondence(self, gap: int) -> Correspondence | None:
        """Where each pixel of the newest frame is in the frame ``gap`` frames before; None: there is no such frame.

        Pixels that leave the image, are hidden there or fail the forward-backward check are not visible.

        Raises:
            ValueError: ``gap`` is below 1.
        """
        if gap < 1:
            raise ValueError(f"expected a gap of at least 1 frame, got {gap}")
        if gap >= len(self._frames):
            return None
        if gap not in self._answers:
            self._answers[gap] = self._correspondence(gap)
        return self._answers[gap]

    def _correspondence(self, gap: int) -> Correspondence:
        """:meth:`correspondence` made anew, at the size of the images that came."""
        newest, earlier = self._frames[0], self._frames[gap]
        forward, backward = self._flow(newest, earlier), self._flow(earlier, newest)
        pixels = forward + grid(*newest.gray.shape)
        returned = forward + sample(backward, pixels)
        residual_px = cv2.magnitude(returned[..., 0], returned[..., 1])
        visible = (residual_px < np.float32(self._tuning.residual_gate_px)) & inside(pixels)
        if newest.valid is not None:
            visible &= newest.valid
        if earlier.valid is not None:
            visible &= sample(earlier.valid.astype(np.float32), pixels) > np.float32(0.99)
        return self._enlarged(Correspondence(gap, pixels, self._sigma_px(forward, residual_px), visible))

    def _flow(self, source: _CachedFrame, target: _CachedFrame) -> FloatArray:
        """(h, w, 2) px from the pixels of one frame to where they are in another."""
        pair = source.number, target.number
        if pair not in self._flows:
            consecutive = abs(source.number - target.number) == 1
            if consecutive:
                self._flows[pair] = dense_flow(self._search, source.gray, target.gray, None)
                self._chains[pair] = _coarse(self._flows[pair])
            else:
                start = self._chained(source, target)
                self._flows[pair] = dense_flow(self._continue, source.gray, target.gray, start)
        return self._flows[pair]

    def _chained(self, source: _CachedFrame, target: _CachedFrame) -> FloatArray:
        """(h, w, 2) px as :meth:`_flow`, composed of the flows between consecutive frames."""
        newest = self._frames[0].number
        first, last = newest - source.number, newest - target.number  # indices of frames
        step = 1 if last > first else -1
        links = [self._link(index, index + step) for index in range(first, last, step)]
        return _fine(compose(links), source.gray.shape)

    def _link(self, source: int, target: int) -> FloatArray:
        """Coarse flow between consecutive frames, by their indices, in coarse pixels."""
        pair = self._frames[source].number, self._frames[target].number
        if pair not in self._chains:
            flow = dense_flow(self._search, self._frames[source].gray, self._frames[target].gray, None)
            if 0 in (source, target):
                self._flows[pair] = flow
            self._chains[pair] = _coarse(flow)
        return self._chains[pair]

    def _sigma_px(self, flow: FloatArray, residual_px: FloatArray) -> FloatArray:
        """(h, w) standard deviation of each coordinate of a flow (h, w, 2), px; the model of :class:`FlowPreset`."""
        preset = self._preset
        mean = cv2.blur(flow, (SPREAD_PX, SPREAD_PX))
        spread = cv2.blur(flow * flow, (SPREAD_PX, SPREAD_PX)) - mean * mean
        variance = np.float32(preset.base_px**2) + np.float32(preset.residual_factor**2) * residual_px * residual_px
        variance += np.float32(preset.spread_factor**2) * cv2.max(spread[..., 0] + spread[..., 1], 0.0)
        if self._texture is None:
            self._texture = structure(self._frames[0].gray)
        variance += np.float32(preset.texture_px**2) / (self._texture + np.float32(1.0))
        return np.asarray(cv2.sqrt(variance))

    def _enlarged(self, small: Correspondence) -> Correspondence:
        """A correspondence of halved images at the size of the images that came."""
        if not self._halvings or self._size_wh is None:
            return small
        height, width = small.sigma_px.shape
        by = self._size_wh[0] / width, self._size_wh[1] / height
        flow = cv2.resize(small.pixels - grid(height, width), self._size_wh, interpolation=cv2.INTER_LINEAR)
        flow = scaled(flow, *by)
        sigma_px = cv2.resize(small.sigma_px, self._size_wh, interpolation=cv2.INTER_LINEAR) * np.float32(max(by))
        visible = cv2.resize(small.visible.view(np.uint8), self._size_wh, interpolation=cv2.INTER_NEAREST) > 0
        pixels = flow + grid(self._size_wh[1], self._size_wh[0])
        return Correspondence(small.gap, pixels, sigma_px, visible & inside(pixels))


def _dis(preset: FlowPreset) -> cv2.DISOpticalFlow:
    """OpenCV's DIS with the settings of a preset."""
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    method.setFinestScale(preset.finest_scale)
    method.setPatchStride(preset.patch_stride_px)
    method.setGradientDescentIterations(preset.descent_iterations)
    method.setVariationalRefinementIterations(preset.refinement_iterations)
    return method


def dense_flow(
    method: cv2.DISOpticalFlow, source: NDArray[np.uint8], target: NDArray[np.uint8], start: FloatArray | None
) -> FloatArray:
    """(h, w, 2) px from each pixel of a gray image (h, w) to where it is in another.

    Args:
        method: the algorithm; one for calls with a start and another for those without: OpenCV's DIS, called without
            one, begins at the start of an earlier call.
        source: (h, w).
        target: (h, w).
        start: (h, w, 2) px where the search begins; None: at the same pixel.
    """
    height, width = source.shape
    below, right = (max(0, LEAST_SIDE_PX - side) for side in (height, width))
    if not below and not right:
        return np.asarray(method.calc(source, target, None if start is None else start.copy()))
    padded = [cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) for image in (source, target)]
    if start is not None:
        start = cv2.copyMakeBorder(start, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(method.calc(padded[0], padded[1], start)[:height, :width])


def compose(flows: Sequence[FloatArray]) -> FloatArray:
    """(h, w, 2) px: flows (h, w, 2) one after the other, each read where the one before it ends.

    ``f_ac(p) = f_ab(p) + f_bc(p + f_ab(p))``; outside the image a flow is that of the nearest pixel.
    """
    total = flows[-1]
    for flow in reversed(flows[:-1]):
        total = flow + sample(total, flow + grid(*flow.shape[:2]))
    return total


def structure(gray: NDArray[np.uint8]) -> FloatArray:
    """(h, w) smaller eigenvalue of the mean structure tensor around each pixel, grey levels^2 a pixel^2."""
    eigenvalue: FloatArray = cv2.cornerMinEigenVal(gray, TEXTURE_PX, ksize=3)
    return cv2.max(eigenvalue, 0.0) * np.float32(EIGENVALUE_UNIT)


@lru_cache(maxsize=16)
def grid(height: int, width: int) -> FloatArray:
    """(height, width, 2) x, y of every pixel's centre; read-only, made once for a size."""
    pixels = np.empty((height, width, 2), np.float32)
    pixels[..., 0] = np.arange(width, dtype=np.float32)
    pixels[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    pixels.flags.writeable = False
    return pixels


def sample(values: NDArray[Scalar], pixels: FloatArray) -> NDArray[Scalar]:
    """(h, w[, c]) ``values`` at ``pixels`` (h, w, 2), bilinear; outside the image those of the nearest pixel."""
    return np.asarray(cv2.remap(values, pixels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def inside(pixels: FloatArray) -> MaskArray:
    """(h, w) whether ``pixels`` (h, w, 2) lie in an image of that size."""
    height, width = pixels.shape[:2]
    return np.asarray(cv2.inRange(pixels, (0.0, 0.0), (width - 1.0, height - 1.0)).astype(bool))


def _coarse(flow: FloatArray) -> FloatArray:
    """A flow on a grid of every CHAIN_STRIDE_PX-th pixel, in px of that grid."""
    height, width = flow.shape[:2]
    size_wh = -(-width // CHAIN_STRIDE_PX), -(-height // CHAIN_STRIDE_PX)
    small = cv2.resize(flow, size_wh, interpolation=cv2.INTER_AREA)
    return scaled(small, size_wh[0] / width, size_wh[1] / height)


def _fine(coarse: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The flow of :func:`_coarse` at every pixel of an image of ``shape`` (h, w)."""
    size_wh = shape[1], shape[0]
    large = cv2.resize(coarse, size_wh, interpolation=cv2.INTER_LINEAR)
    return scaled(large, size_wh[0] / coarse.shape[1], size_wh[1] / coarse.shape[0])


def scaled(flow: FloatArray, by_x: float, by_y: float) -> FloatArray:
    """A flow (h, w, 2) of another grid, whose pixels are so many times those of this one; changed in place."""
    if by_x == by_y:
        flow *= np.float32(by_x)
    else:
        flow *= np.array([by_x, by_y], np.float32)
    return flow


def _halvings(side_px: int, limit_px: int) -> int:
    """How often a side is halved until it is within a limit."""
    halvings = 0
    while side_px > limit_px:
        side_px, halvings = (side_px + 1) // 2, halvings + 1
    return halvings


def _half(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of an image of half the size, rounded up."""
    return (shape[1] + 1) // 2, (shape[0] + 1) // 2


def _resized_mask(mask: MaskArray, shape: tuple[int, ...]) -> MaskArray:
    """(h, w) pixels of a smaller image that are made of pixels in the mask only."""
    if mask.shape == shape:
        return mask
    small = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small > np.float32(0.999))
