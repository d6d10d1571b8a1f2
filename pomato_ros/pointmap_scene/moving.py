"""The moving mask over time: the paper's disagreement, freed of what errs alone, and a belief that follows the image.

The paper's rule flags a tail of pixels even where nothing moves, and nothing where most of the image does. Here the
motion of each pixel is a median over its neighbours, told in errors that are usual along the pixel's ray and across it,
and compared with a floor that falls and rises with the network's confidence, as far as what rests has shown confidence
to tell of errors; the image's quartile counts only so far. Motion is averaged over frames with its direction, so that
errors cancel, for as long as frames agree. What is believed moves on with the image, except where that looks different
from one frame to the next, and a pixel needs more to begin moving than to go on.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.pointmap_scene.follow import dense_flow
from pomato_ros.pointmap_scene.reference import PairMaps
from pomato_ros.structures import FloatArray, MaskArray

WORK_PX = 192  # long side from which on every second pixel, or fewer, tell
BLUR_PX = 5  # medians of neighbours, of maps
STEP_BLUR_PX = 3  # and of steps, which are averaged over frames as well
COARSE = 2  # times as many pixels, along each side, are told what confidence says by a mean
CONFIDENCE_PX = 5  # side of the square over which confidences are averaged
SMOOTHED_FLOOR = 0.46  # of the floor is left, along rays, where errors of single pixels are gone
ALONG_RAYS = (1.0, 3.0)  # times, at least and most, that errors are larger along rays than across them, since networks
ALONG_BEFORE = 2.0  # know directions better than distances; and how many times until it is learned
LOW = 0.1  # quantile of errors, which few movers reach
LOW_ALONG, LOW_ACROSS = 0.1257, 0.4590  # that quantile of a normal error's length, and of that of two of them
UNMOVED_FLOOR = 0.03  # floors; a pixel whose own point went less than this is at rest whatever its neighbours do
DOUBT = (0.5, 3.0)  # within which confidence says how much farther off than usual a pixel is; that
POWER = (0.5, 2.5)  # to a power within these is what its floor is changed by; one until it is learned
POWER_BEFORE = 0.05  # variance of the log of the doubt that the one counts for
LEARNED = 0.97  # of what was learned is kept
LEARN_PX = 43  # along the long side are enough to learn on
FAINT = 0.05  # floors; less motion than this is all alike
FARTHEST_STEP = 1e3  # of the distance: no step is longer
UNLIKE = (3.0, 3.0)  # grey levels, and typical differences, from which a pixel is no longer the one it was
FARTHEST = 3.0  # floors; a step counts for no more in the average over frames
AVERAGED = 0.9  # of the weight that earlier frames have, as far as
AGREE = 0.7  # floors, they agree with the newest
REST = -0.4  # what a pixel without motion counts for, and
MOTION = 2.0  # the most that one with motion does, in floors
MEMORY = 0.7  # of what was believed
UNTOLD_MEMORY = 0.8  # the same in a frame that tells nothing
BELIEF = 3.0  # the most that is believed
BEGINS, GOES_ON = 1.0, 0.3  # belief from which a region moves, and to which it reaches
OUTLINE = 0.8  # belief between pixels that tell, in large images, at which a region ends
LEAST_SHARE = 0.002  # of the image; smaller regions are none
FLOW_PX = 64  # long side of the image that flow is found in, in patches of eight of its pixels,
FLOW_STRIDE = 5  # so many from one to the next, with
FLOW_STEPS = 16  # so many steps of each


@dataclass(frozen=True, slots=True)
class MaskParts:
    """Which parts of the method take part: all, but where it is measured what each is worth (mask_ablation)."""

    quartile: bool = True  # the paper's rule: motion beyond what is usual in the image
    distance: bool = True  # motion as a share of each point's distance, else of the image's typical one
    rays: bool = True  # motion across rays counts for more than along them
    confidence: bool = True  # the floor falls and rises with it
    calibration: bool = True  # by as much as what rests has been found to err more where it is low
    floor: bool = True  # less motion is none, however little the rest of the image moves
    medians: bool = True  # over neighbours, which keep edges
    own_motion: bool = True  # a pixel at rest is left out, whatever its neighbours do
    average: bool = True  # of motion with its direction over frames that agree
    memory: bool = True  # votes of the frames before
    likeness: bool = True  # memory fades where the images differ, as where something was uncovered
    hysteresis: bool = True  # a region needs more to begin moving than to go on
    least_area: bool = True  # smaller regions are none


ALL_PARTS = MaskParts()


class MovingMask:
    """What is believed to move, from frame to frame."""

    def __init__(self, parts: MaskParts = ALL_PARTS) -> None:
        """Nothing is."""
        self._parts = parts
        self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._method.setFinestScale(0)
        self._method.setPatchStride(FLOW_STRIDE)
        self._method.setGradientDescentIterations(FLOW_STEPS)
        self._method.setVariationalRefinementIterations(0)  # to make all smooth would take half as long again
        self.errors = Errors()  # of the network, not of what it sees: nothing makes it forgotten
        self.forget()

    def forget(self) -> None:
        """Nothing is believed any more, as after a frame without sense."""
        self._belief: FloatArray | None = None  # (h, w) of every stride-th pixel, as the steps are
        self._steps: FloatArray | None = None  # (4, h, w) sum of steps in floors, and how many frames' they are
        self._grey: FloatArray | None = None  # (h, w) grey levels of the newest image, as large as the belief
        self._small: NDArray[np.uint8] | None = None  # (h, w) those that flow is found in
        self._flow: FloatArray | None = None  # (h, w, 2) px of the small image from the newest to the one before
        self._size_wh = (0, 0)  # of the newest image

    @property
    def flow_to_before(self) -> FloatArray | None:
        """(h, w, 2) px from the newest image to the one before."""
        return self.flow_in(self._size_wh)

    def flow_in(self, size_wh: tuple[int, int]) -> FloatArray | None:
        """(h, w, 2) px from the newest image to the one before, both resized to ``size_wh``; None: not known."""
        if self._flow is None:
            return None
        height, width, _ = self._flow.shape
        return cv2.resize(self._flow * np.array((size_wh[0] / width, size_wh[1] / height), np.float32), size_wh)

    def update(self, image_rgb: NDArray[np.uint8], maps: PairMaps | None, alpha: float, floor: float) -> MaskArray:
        """(h, w) pixels of the newest image that move.

        Args:
            image_rgb: (h, w, 3).
            maps: of the pair whose view 2 is the image; None if it is its own reference, which tells nothing.
            alpha: quartiles of the image's motion that a pixel must exceed.
            floor: share of a point's distance that it must have moved, before errors of single pixels are taken out.
        """
        size_wh = image_rgb.shape[1::-1]
        stride = -(-max(size_wh) // WORK_PX)
        self._carry_on(image_rgb, stride)
        unmoved: MaskArray | None = None
        if maps is not None:
            told, unmoved = self._told(maps, stride, alpha, floor)
        else:
            told = np.zeros(-(-np.array(size_wh[::-1]) // stride), np.float32)
        if self._belief is not None:
            memory = MEMORY * self._parts.memory if maps is not None else UNTOLD_MEMORY
            told = cv2.scaleAdd(self._belief, memory, told)
        self._belief = np.clip(told, np.float32(-BELIEF), np.float32(BELIEF), out=told)
        found = regions(self._belief, self._parts)
        if unmoved is not None and self._parts.own_motion:
            found &= ~unmoved
        return found if stride == 1 else enlarged(found, self._belief, size_wh, stride)

    def _carry_on(self, image_rgb: NDArray[np.uint8], stride: int) -> None:
        """What is known of the image before -> the same at the newest pixels, and the flow between them."""
        width, height = self._size_wh = image_rgb.shape[1::-1]
        few_wh = -(-width // stride), -(-height // stride)
        few = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY)
        few = few if stride == 1 else cv2.resize(few, few_wh)
        small, grey = flow_image(few), few.astype(np.float32)
        self._flow = None
        if self._small is not None and self._grey is not None:
            self._flow = dense_flow(self._method, small, self._small)
            flow = self.flow_in(few_wh)
            if self._belief is not None and flow is not None:
                places = places_before(flow)
                self._belief = cv2.blur(valued_at(places, self._belief), (3, 3))
                if self._steps is not None:
                    self._steps = planes_of(valued_at(places, pixels_of(self._steps)))
                if self._parts.likeness:
                    alike = likeness(grey, valued_at(places, self._grey))
                    self._belief *= alike
                    if self._steps is not None:
                        self._steps *= alike
        self._grey, self._small = grey, small

    def _told(self, maps: PairMaps, stride: int, alpha: float, floor: float) -> tuple[FloatArray, MaskArray]:
        """(h, w) evidence for motion by these maps and those before, and (h, w) which pixels certainly rest."""
        parts = self._parts
        motion = motion_of_pixels(planes(maps.points_2, stride), as_planes(maps.points_match, stride), parts)
        unmoved = squares(motion) <= np.float32((UNMOVED_FLOOR * floor) ** 2)
        level = max(SMOOTHED_FLOOR * floor, 1e-9)
        if parts.medians:
            motion = without_strays_each(motion, STEP_BLUR_PX)
        coarse = np.s_[..., ::COARSE, ::COARSE]
        few_motion = few_of(motion[coarse])
        rest = np.arange(few_motion.shape[1])
        if self._belief is not None:
            rest = np.flatnonzero(few_of(self._belief[coarse]) < GOES_ON)
        if parts.rays:
            shape = np.float32(self.errors.learn_shape(few_motion[:, rest]))
            motion[1:] *= shape
            few_motion[1:] *= shape
        doubted = doubt(maps, stride) if parts.confidence else np.ones(motion[coarse].shape[1:], np.float32)
        if parts.confidence and parts.calibration and parts.floor:
            few_in_floors = few_motion[:, rest] * np.float32(1.0 / level)
            self.errors.learn_power(few_of(doubted)[rest], few_in_floors)
            doubted = self.errors.grown(doubted)
        usual = cv2.resize(floors(few_motion, doubted, alpha, level, parts), motion.shape[:0:-1])
        if parts.average:
            self._steps = averaged(self._steps, motion, usual)
            told = squares(self._steps[:3])
            told /= self._steps[3]
            np.sqrt(told, out=told)
        else:
            told = np.sqrt(squares(motion))
            told /= usual
        told -= np.float32(1.0)
        return np.clip(told, np.float32(REST), np.float32(MOTION), out=told), unmoved


class Errors:
    """How motion errs where nothing moves: how much more along rays than across them, and where confidence is low."""

    def __init__(self) -> None:
        """Nothing is learned."""
        self._log_shape, self._images = float(np.log(ALONG_BEFORE)), 1.0
        self._product = self._square = 0.0
        self._power = 1.0

    def learn_shape(self, motion: FloatArray) -> float:
        """How many times larger errors are along rays than across them, after one more image.

        Args:
            motion: (3, n) of pixels at rest, so that it is error: along the ray and twice across it.
        """
        along, right, down = motion
        if len(along):
            low_along = quantile_of(np.abs(along), LOW) / LOW_ALONG
            low_across = math.sqrt(quantile_of(right * right + down * down, LOW)) / LOW_ACROSS
            log_shape = math.log(min(max(low_along / max(low_across, 1e-9), ALONG_RAYS[0]), ALONG_RAYS[1]))
            images = LEARNED * self._images
            self._log_shape = (images * self._log_shape + log_shape) / (images + 1.0)
            self._images = images + 1.0
        return math.exp(self._log_shape)

    def learn_power(self, doubts: FloatArray, motion: FloatArray) -> float:
        """By which power of what confidence says errors grow, after one more image: the slope of the logs of the two.

        Args:
            doubts: (n,) what :func:`doubt` says of pixels at rest.
            motion: (3, n) of the same, in floors, so that it is error.
        """
        if len(doubts):
            log_doubt, log_error = np.log(doubts), np.log(lengths(motion) + np.float32(FAINT))
            apart = log_doubt - log_doubt.mean()
            self._product = LEARNED * self._product + float(apart @ log_error) / len(doubts)
            self._square = LEARNED * self._square + float(apart @ apart) / len(doubts)
        slope = (self._product + POWER_BEFORE) / (self._square + POWER_BEFORE)
        self._power = min(max(slope, POWER[0]), POWER[1])
        return self._power

    def grown(self, doubts: FloatArray) -> FloatArray:
        """(h, w) how many times more pixels err than usual, by what :func:`doubt_by` says of them and was learned."""
        return cv2.exp(np.float32(self._power) * cv2.log(doubts))  # several times as fast as to raise it to a power


def few_of(values: FloatArray) -> FloatArray:
    """(..., n) evenly spread pixels of (..., h, w), some LEARN_PX along the long side."""
    stride = max(1, round(max(values.shape[-2:]) / LEARN_PX))
    first_row, first_column = (min(stride // 2, side - 1) for side in values.shape[-2:])
    few = values[..., first_row::stride, first_column::stride]
    return few.reshape(*few.shape[:-2], -1)


def quantile_of(values: NDArray[np.floating], share: float) -> float:
    """The quantile of all values, between the two nearest; NumPy's own takes several times as long."""
    flat = values.ravel()
    place = share * (flat.size - 1)
    low = int(place)
    ordered = np.partition(flat, low)
    below = float(ordered[low])
    return below if low == place else below + (place - low) * (float(ordered[low + 1 :].min()) - below)


@lru_cache(maxsize=4)
def _grid(height: int, width: int) -> FloatArray:
    """(h, w, 2) px of x and y."""
    grid = np.empty((height, width, 2), np.float32)
    grid[..., 0], grid[..., 1] = np.arange(width), np.arange(height)[:, None]
    grid.setflags(write=False)
    return grid


def flow_image(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (h, w), its long side FLOW_PX; each pixel is the mean of those whose place it takes."""
    factor = FLOW_PX / max(grey.shape)
    size_wh = [max(1, round(factor * side)) for side in grey.shape[::-1]]
    return cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)


def places_before(flow: FloatArray) -> FloatArray:
    """(h, w, 2) where ``flow`` (h, w, 2) leads from each pixel, px."""
    return cv2.add(_grid(*flow.shape[:2]), flow)


def valued_at(places: FloatArray, values: NDArray[Any]) -> NDArray[Any]:
    """(h, w) or (h, w, c) values between pixels, at places (h, w, 2)."""
    return cv2.remap(values, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def carried_along(values: NDArray[Any], flow: FloatArray) -> NDArray[Any]:
    """Values (h, w) of the image before at the newest pixels, from which ``flow`` (h, w, 2) goes back.

    A mean of neighbours.
    """
    return cv2.blur(valued_at(places_before(flow), values), (3, 3))


def likeness(grey: FloatArray, before: FloatArray) -> FloatArray:
    """(h, w) 1 where the newest image is as the one before, carried along, 0 where it is another; grey levels."""
    apart = cv2.blur(cv2.absdiff(grey, before), (3, 3))
    grey_levels, times = UNLIKE
    apart *= np.float32(1.0 / (grey_levels + times * quantile_of(apart[::4, ::4], 0.5)))
    apart *= apart
    apart *= apart
    apart += np.float32(1.0)
    return np.divide(np.float32(1.0), apart, out=apart)


def enlarged(found: MaskArray, belief: FloatArray, size_wh: tuple[int, int], stride: int) -> MaskArray:
    """What was found on every ``stride``-th pixel, for all of an image (h, w): as far as belief reaches beyond OUTLINE.

    Between four of those pixels it is interpolated, beyond the last ones it is theirs. What was found counts as no less
    than what begins.
    """
    moving = np.zeros(size_wh[::-1], bool)
    left, top, width, height = cv2.boundingRect(found.view(np.uint8))
    if not width:
        return moving
    left, top, right, bottom = max(left - 1, 0), max(top - 1, 0), left + width + 1, top + height + 1
    few = np.s_[top:bottom, left:right]  # what is beyond moves nowhere
    known = cv2.copyTo(cv2.max(belief[few], BEGINS), found[few].view(np.uint8), cv2.min(belief[few], REST))
    height, width = known.shape
    known = cv2.copyMakeBorder(known, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    whole, outline = np.empty((height, stride, width, stride), np.uint8), np.float32(OUTLINE)
    for row in range(stride):
        here = cv2.addWeighted(known[:-1], 1.0 - row / stride, known[1:], row / stride, 0.0)
        columns = [here[:, :-1] > outline]
        for column in range(1, stride):
            between = cv2.addWeighted(here[:, :-1], 1.0 - column / stride, here[:, 1:], column / stride, 0.0)
            columns.append(between > outline)
        whole[:, row] = cv2.merge([moves.view(np.uint8) for moves in columns]).reshape(height, width, stride)
    part = moving[stride * top : stride * bottom, stride * left : stride * right]
    part[...] = whole.view(bool).reshape(height * stride, width * stride)[: part.shape[0], : part.shape[1]]
    return moving


def floors(few_motion: FloatArray, doubted: FloatArray, alpha: float, level: float, parts: MaskParts) -> FloatArray:
    """(h, w) how far pixels at rest may seem to move, shares of their distance; ``level``: usually.

    It is ``level`` where nothing is ``doubted`` (h, w), and may fall below it no farther than ``alpha`` quartiles of
    the image's motion, told by that of some pixels (3, n).
    """
    quartile = alpha * quantile_of(lengths(few_motion), 0.25) if parts.quartile else 0.0
    if not parts.floor:
        return np.full(doubted.shape, max(quartile, 1e-9), np.float32)
    raised = cv2.max(doubted, min(quartile / level, 1.0))
    raised *= np.float32(level)
    return raised


def averaged(before: FloatArray | None, motion: FloatArray, usual: FloatArray) -> FloatArray:
    """(4, h, w) sum of steps of frames, in floors, and their number; ``before``: the same of the frames before.

    What does not agree with the newest steps by its own errors and theirs is forgotten.

    Args:
        before: (4, h, w).
        motion: (3, h, w) the newest steps, which count for no more than FARTHEST floors.
        usual: (h, w) the floor of each pixel, in the unit of ``motion``.
    """
    length = np.sqrt(squares(motion))
    farthest = cv2.max(length, usual * np.float32(FARTHEST))
    shorter = np.divide(np.float32(FARTHEST), farthest, out=farthest)
    newest = np.empty((4, *length.shape), np.float32)
    np.multiply(motion, shorter, out=newest[:3])
    newest[3] = 1.0
    if before is None:
        return newest
    share = np.divide(np.float32(1.0 / AVERAGED), cv2.max(before[3], 1e-6))
    apart = newest[:3].copy()
    add_product(before[:3], np.float32(-AVERAGED) * share, apart)
    against = squares(apart)
    share += np.float32(1.0)
    against /= share
    against *= against
    against += np.float32(AGREE**4)
    add_product(before, np.divide(np.float32(AVERAGED * AGREE**4), against, out=against), newest)
    return newest


def add_product(planes: FloatArray, factor: FloatArray, into: FloatArray) -> None:
    """Add each plane (c, h, w) times a factor (h, w)."""
    for plane, total in zip(planes, into, strict=True):
        cv2.accumulateProduct(plane, factor, total)


def as_planes(points: torch.Tensor, stride: int = 1) -> FloatArray:
    """A view (3, h, w) of every ``stride``-th of points (.., .., 3)."""
    return points.numpy()[::stride, ::stride].transpose(2, 0, 1)


def planes(points: torch.Tensor, stride: int = 1) -> FloatArray:
    """A copy of :func:`as_planes`, on which arithmetic is several times as fast."""
    return np.array(as_planes(points, stride), np.float32, order="C")


def pixels_of(planes: FloatArray) -> FloatArray:
    """(c, h, w) -> (h, w, c)."""
    count, height, width = planes.shape
    return cv2.transpose(planes.reshape(count, -1)).reshape(height, width, count)


def planes_of(pixels: FloatArray) -> FloatArray:
    """(h, w, c) -> (c, h, w)."""
    height, width, count = pixels.shape
    return cv2.transpose(pixels.reshape(-1, count)).reshape(count, height, width)


def squares(vectors: FloatArray) -> FloatArray:
    """(h, w) squared lengths of vectors (3, h, w)."""
    x, y, z = vectors
    squared: FloatArray = x * x
    cv2.accumulateSquare(y, squared)
    cv2.accumulateSquare(z, squared)
    return squared


def lengths(vectors: FloatArray) -> FloatArray:
    """(n,) of a few vectors (3, n)."""
    return np.sqrt(np.einsum("in,in->n", vectors, vectors))


def motion_of_pixels(points: FloatArray, match: FloatArray, parts: MaskParts) -> FloatArray:
    """(3, h, w) how view 2's points moved, shares of their distance: along their rays, to the right, and downwards.

    0 where not told.

    Args:
        points: (3, h, w) along the camera's axes.
        match: (3, h, w) the same points at the other time.
        parts: without ``rays``, along the camera's axes.
    """
    with np.errstate(all="ignore"):
        moved: FloatArray = np.subtract(match, points, out=np.empty_like(points))
        if parts.rays:
            moved = along_and_across(moved, points)
        else:
            moved /= np.sqrt(squares(points))
        if not parts.distance:
            distance = np.sqrt(squares(points))
            moved *= distance / np.float32(np.nanmedian(distance))
        flat = moved.ravel()
        if np.dot(flat, flat) < FARTHEST_STEP**2:  # no number is missing or too large; asked of all at once
            return moved
        told = np.isfinite(moved).all(axis=0) & np.isfinite(squares(points))
    np.clip(moved, -FARTHEST_STEP, FARTHEST_STEP, out=moved)
    moved[:, ~told] = 0.0
    return moved


def along_and_across(steps: FloatArray, points: FloatArray) -> FloatArray:
    """(3, h, w) steps, as shares of the distance, along the pixel's ray, and across it to the right and downwards.

    Axes of each pixel's own turn with the camera, so that steps of different frames compare. With the step s, the
    distance d and f of it on the level plane: ``s.p / d^2``, ``(s_x z - s_z x) / (f d)``, and, as nothing of what goes
    to the right goes down, ``(s_y - y s.p / d^2) / f``.

    Args:
        steps: (3, h, w) along the camera's axes.
        points: (3, h, w), the same.
    """
    (x, y, z), (step_x, step_y, step_z) = points, steps
    turned = np.empty_like(steps)
    along, right, down = turned
    level = x * x  # squared distance on the level plane
    cv2.accumulateSquare(z, level)
    whole = y * y
    whole += level
    np.multiply(step_x, x, out=along)
    cv2.accumulateProduct(step_y, y, along)
    cv2.accumulateProduct(step_z, z, along)
    along /= whole
    np.subtract(step_y, np.multiply(along, y, out=down), out=down)
    np.subtract(np.multiply(step_x, z, out=right), step_z * x, out=right)
    np.sqrt(cv2.max(level, 1e-12, level), out=level)
    down /= level
    level *= np.sqrt(whole, out=whole)
    right /= level
    return turned


def without_strays(values: NDArray[np.floating], blur_px: int = BLUR_PX) -> FloatArray:
    """(h, w) or (h, w, 3), each channel's median over neighbours; nothing may be NaN."""
    return cv2.medianBlur(np.ascontiguousarray(values, np.float32), blur_px)


def without_strays_each(planes: FloatArray, blur_px: int) -> FloatArray:
    """(c, h, w) as :func:`without_strays` of each."""
    medians = np.empty_like(planes)
    for plane, median in zip(planes, medians, strict=True):
        cv2.medianBlur(plane, blur_px, median)
    return medians


def doubt(maps: PairMaps, stride: int = 1) -> FloatArray:
    """(h, w) :func:`doubt_by` the lesser confidence of the two maps, of every ``stride``-th pixel COARSE together."""
    few = np.s_[::stride, ::stride]
    least = np.minimum(maps.conf_2.numpy()[few], maps.conf_match.numpy()[few], dtype=np.float32)
    return doubt_by(least, COARSE)


def doubt_by(confidence: FloatArray, coarse: int = 1) -> FloatArray:
    """A factor about 1: the usual confidence over that around the pixel, both beyond 1, which is no confidence.

    ``confidence`` (h, w) -> (h', w'), one of ``coarse`` times ``coarse`` pixels.
    """
    least = confidence - np.float32(1.0)
    if not np.isfinite(np.dot(least.ravel(), least.ravel())):
        least[~np.isfinite(least)] = 0.0
    if coarse > 1:
        wide = -(-least.shape[1] // coarse), -(-least.shape[0] // coarse)
        least = cv2.resize(least, wide, interpolation=cv2.INTER_AREA)
    around = cv2.blur(least, (CONFIDENCE_PX, CONFIDENCE_PX), least)
    typical = np.float32(max(quantile_of(around, 0.5), 1e-6))
    np.divide(typical, cv2.max(around, 1e-6, around), out=around)
    return np.clip(around, np.float32(DOUBT[0]), np.float32(DOUBT[1]), out=around)


def regions(belief: FloatArray, parts: MaskParts = ALL_PARTS) -> MaskArray:
    """(h, w) connected pixels above GOES_ON that hold one above BEGINS and are large enough."""
    goes_on = belief > np.float32(GOES_ON if parts.hysteresis else BEGINS)
    left, top, width, height = cv2.boundingRect(goes_on.view(np.uint8))
    part = goes_on[top : top + height, left : left + width]
    inside = np.flatnonzero(part)
    if not len(inside):
        return goes_on
    count, labels = cv2.connectedComponentsWithAlgorithm(part.view(np.uint8), 4, cv2.CV_32S, cv2.CCL_WU)
    numbers = labels.ravel()[inside]
    begins = belief[top : top + height, left : left + width].ravel()[inside] > np.float32(BEGINS)
    keep = np.bincount(numbers, minlength=count) >= (LEAST_SHARE * belief.size if parts.least_area else 0.0)
    keep &= np.bincount(numbers[begins], minlength=count) > 0
    kept = np.zeros(part.shape, bool)
    kept.ravel()[inside] = keep[numbers]
    part[...] = kept
    return goes_on
