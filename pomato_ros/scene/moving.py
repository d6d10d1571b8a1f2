"""The moving mask over time: the paper's disagreement, freed of what errs alone, and a belief that follows the image.

The paper's rule flags a tail of pixels even where nothing moves, and nothing where most of the image does. Here the
motion of each pixel is a median over its neighbours, told in errors that are usual along the pixel's ray and across it,
and compared with a floor that falls and rises with the network's confidence, as far as what rests has shown confidence
to tell of errors; the image's quartile counts only so far. Motion is averaged over frames with its direction, so that
errors cancel, for as long as frames agree. What is believed moves on with the image, except where that looks different
from one frame to the next, and a pixel needs more to begin moving than to go on.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.scene.follow import dense_flow
from pomato_ros.scene.reference import PairMaps
from pomato_ros.structures import FloatArray, MaskArray

WORK_PX = 256  # long side from which on every second pixel, or fewer, tell
BLUR_PX = 5  # medians of neighbours, of maps
STEP_BLUR_PX = 3  # and of steps, which are averaged over frames as well
CONFIDENCE_PX = 9  # mean of confidences
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
LEAST_SHARE = 0.002  # of the image; smaller regions are none
FLOW_PX = 256  # long side of the image that beliefs are carried on


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
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._errors = Errors()  # of the network, not of what it sees: nothing makes it forgotten
        self.forget()

    def forget(self) -> None:
        """Nothing is believed any more, as after a frame without sense."""
        self._belief: FloatArray | None = None  # (h, w) of every stride-th pixel, as the steps are
        self._steps: FloatArray | None = None  # (4, h, w) sum of steps in floors, and how many frames' they are
        self._grey: NDArray[np.uint8] | None = None  # (h, w) px of the image that flow is found in
        self.flow_to_before: FloatArray | None = None  # (h, w, 2) px from the newest image to the one before

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
            told, unmoved = self._told(thinned(maps, stride), alpha, floor)
        else:
            told = np.zeros(-(-np.array(size_wh[::-1]) // stride), np.float32)
        if self._belief is not None:
            told += np.float32(MEMORY * self._parts.memory if maps is not None else UNTOLD_MEMORY) * self._belief
        self._belief = np.clip(told, -BELIEF, BELIEF)
        found = regions(self._belief, self._parts)
        if unmoved is not None and self._parts.own_motion:
            found &= ~unmoved
        return found if stride == 1 else enlarged(found, self._belief, size_wh, stride, self._parts)

    def _carry_on(self, image_rgb: NDArray[np.uint8], stride: int) -> None:
        """What is known of the image before -> the same at the newest pixels, and the flow between them."""
        height, width = image_rgb.shape[:2]
        factor = FLOW_PX / max(height, width)
        grey = cv2.cvtColor(cv2.resize(image_rgb, None, fx=factor, fy=factor), cv2.COLOR_RGB2GRAY)
        self.flow_to_before = None
        if self._grey is not None:
            flow = dense_flow(self._flow, grey, self._grey) * np.float32(1.0 / factor)
            self.flow_to_before = cv2.resize(flow, (width, height))
            if self._belief is not None:
                shape_wh = self._belief.shape[::-1]
                back = cv2.resize(flow, shape_wh) * np.float32(1.0 / stride)
                self._belief = carried_along(self._belief, back)
                if self._steps is not None:
                    self._steps = np.stack(cv2.split(carried_along(cv2.merge(list(self._steps)), back, spread_px=1)))
                if self._parts.likeness:
                    alike = likeness(cv2.resize(grey, shape_wh), cv2.resize(self._grey, shape_wh), back)
                    self._belief *= alike
                    self._steps = None if self._steps is None else self._steps * alike
        self._grey = grey

    def _told(self, maps: PairMaps, alpha: float, floor: float) -> tuple[FloatArray, MaskArray]:
        """(h, w) evidence for motion by these maps and those before, and (h, w) which pixels certainly rest."""
        parts = self._parts
        points = planes(maps.points_2)
        steps = steps_of_pixels(points, planes(maps.points_match), parts)
        unmoved = squares(steps) <= (UNMOVED_FLOOR * floor) ** 2
        level = max(SMOOTHED_FLOOR * floor, 1e-9)
        rest = None if self._belief is None else self._belief < GOES_ON
        motion = smoothed_steps(steps, points, parts)
        if parts.rays:
            motion[1:] *= np.float32(self._errors.learn_shape(motion, rest))
        least = doubt(maps) if parts.confidence else np.ones(motion.shape[1:], np.float32)
        if parts.confidence and parts.calibration and parts.floor:
            least = least ** np.float32(self._errors.learn_power(least, motion * np.float32(1.0 / level), rest))
        in_floors = motion / floors(motion, least, alpha, level, parts)
        if parts.average:
            self._steps = averaged(self._steps, in_floors)
            told = np.sqrt(squares(self._steps[:3]) / self._steps[3])
        else:
            told = np.sqrt(squares(in_floors))
        return np.clip(told - np.float32(1.0), REST, MOTION), unmoved


class Errors:
    """How motion errs where nothing moves: how much more along rays than across them, and where confidence is low."""

    def __init__(self) -> None:
        """Nothing is learned."""
        self._log_shape, self._images = float(np.log(ALONG_BEFORE)), 1.0
        self._product = self._square = 0.0

    def learn_shape(self, motion: FloatArray, rest: MaskArray | None) -> float:
        """How many times larger errors are along rays than across them, after one more image.

        Args:
            motion: (3, h, w) of pixels, along the ray and twice across it; of those at rest it is error.
            rest: (h, w) which those are; None: all.
        """
        along, right, down = few_of(motion, rest)
        if len(along):
            low_along = float(np.quantile(np.abs(along), LOW)) / LOW_ALONG
            low_across = float(np.sqrt(np.quantile(right * right + down * down, LOW))) / LOW_ACROSS
            log_shape = float(np.log(np.clip(low_along / max(low_across, 1e-9), *ALONG_RAYS)))
            images = LEARNED * self._images
            self._log_shape = (images * self._log_shape + log_shape) / (images + 1.0)
            self._images = images + 1.0
        return float(np.exp(self._log_shape))

    def learn_power(self, doubted: FloatArray, motion: FloatArray, rest: MaskArray | None) -> float:
        """By which power of what confidence says errors grow, after one more image: the slope of the logs of the two.

        Args:
            doubted: (h, w) what :func:`doubt` says.
            motion: (3, h, w) of pixels, in floors; of those at rest it is error.
            rest: (h, w) which those are; None: all.
        """
        doubts = few_of(doubted[None], rest)[0]
        if len(doubts):
            log_doubt, log_error = np.log(doubts), np.log(np.sqrt(squares(few_of(motion, rest))) + np.float32(FAINT))
            apart = log_doubt - log_doubt.mean()
            self._product = LEARNED * self._product + float((apart * log_error).mean())
            self._square = LEARNED * self._square + float((apart * apart).mean())
        return float(np.clip((self._product + POWER_BEFORE) / (self._square + POWER_BEFORE), *POWER))


def few_of(planes_of: FloatArray, rest: MaskArray | None = None) -> FloatArray:
    """(c, n) evenly spread pixels of (c, h, w), some LEARN_PX along the long side, as far as at ``rest`` (h, w)."""
    stride = max(1, round(max(planes_of.shape) / LEARN_PX))
    few = slice(stride // 2, None, stride)
    values = planes_of[:, few, few]
    return values.reshape(len(values), -1) if rest is None else values[:, rest[few, few]]


def carried_along(values: NDArray[Any], flow: FloatArray, spread_px: int = 3) -> NDArray[Any]:
    """Values (h, w) or (h, w, c) of the image before at the newest pixels, from which ``flow`` (h, w, 2) goes back.

    ``spread_px``: mean of so many neighbours.
    """
    height, width = flow.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(values, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.blur(moved, (spread_px, spread_px)) if spread_px > 1 else moved


def likeness(grey: NDArray[np.uint8], before: NDArray[np.uint8], flow: FloatArray) -> FloatArray:
    """(h, w) 1 where the newest image is as the one before that ``flow`` (h, w, 2) leads to, 0 where it is another."""
    there = carried_along(before, flow, spread_px=1)
    apart = cv2.blur(cv2.absdiff(grey, there).astype(np.float32), (3, 3))
    grey_levels, times = UNLIKE
    shares = apart * np.float32(1.0 / (grey_levels + times * float(np.median(apart[::2, ::2]))))
    shares *= shares
    return np.float32(1.0) / (1.0 + shares * shares)


def thinned(maps: PairMaps, stride: int) -> PairMaps:
    """Every ``stride``-th pixel of the maps, from the first on."""
    if stride == 1:
        return maps
    few = np.s_[::stride, ::stride]
    return PairMaps(maps.points_2[few], maps.conf_2[few], maps.points_match[few], maps.conf_match[few])


def enlarged(
    found: MaskArray, belief: FloatArray, size_wh: tuple[int, int], stride: int, parts: MaskParts = ALL_PARTS
) -> MaskArray:
    """What was found on every ``stride``-th pixel, for all of an image (h, w): as far as the belief between reaches."""
    goes_on = np.float32(GOES_ON if parts.hysteresis else BEGINS)
    few_from_all = np.array([[1.0 / stride, 0.0, 0.0], [0.0, 1.0 / stride, 0.0]])
    between = cv2.warpAffine(
        np.where(found, belief, np.minimum(belief, np.float32(REST))),
        few_from_all,
        size_wh,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return between > goes_on


def smoothed_steps(steps: FloatArray, points: FloatArray, parts: MaskParts) -> FloatArray:
    """(3, h, w) steps along the ray and across it, without errors of single pixels.

    ``steps``: (3, h, w) what :func:`steps_of_pixels` says of ``points`` (3, h, w).
    """
    on_rays = along_and_across(steps, points) if parts.rays else steps
    return np.stack([without_strays(plane, STEP_BLUR_PX) for plane in on_rays]) if parts.medians else on_rays


def floors(motion: FloatArray, doubted: FloatArray, alpha: float, level: float, parts: MaskParts) -> FloatArray:
    """(h, w) how far pixels at rest may seem to move, shares of their distance; ``level``: usually.

    It is ``level`` where nothing is ``doubted`` (h, w), and may fall below it no farther than ``alpha`` quartiles of
    the image's ``motion`` (3, h, w).
    """
    quartile = alpha * float(np.quantile(np.sqrt(squares(few_of(motion))), 0.25)) if parts.quartile else 0.0
    if not parts.floor:
        return np.full(doubted.shape, max(quartile, 1e-9), np.float32)
    return np.float32(level) * np.maximum(doubted, np.float32(min(quartile / level, 1.0)))


def along_and_across(steps: FloatArray, points: FloatArray) -> FloatArray:
    """(3, h, w) steps along the pixel's ray, and across it to the right and downwards.

    Axes of each pixel's own turn with the camera, so that steps of different frames compare. ``steps`` and ``points``
    (3, h, w) along the camera's axes.
    """
    (x, y, z), (step_x, step_y, step_z) = points, steps
    flat_square = x * x + z * z
    flat = np.float32(1.0) / np.sqrt(np.maximum(flat_square, np.float32(1e-12)))
    whole = np.float32(1.0) / np.sqrt(np.maximum(flat_square + y * y, np.float32(1e-12)))
    level = (step_x * x + step_z * z) * flat  # of the step, along the ray's shadow on the level plane
    rise, run = y * whole, flat_square * flat * whole  # of the ray
    along = level * run + step_y * rise
    right = (step_x * z - step_z * x) * flat
    down = step_y * run - level * rise
    return np.stack((along, right, down))


def averaged(before: FloatArray | None, steps: FloatArray) -> FloatArray:
    """(4, h, w) sum of steps of frames, in floors, and their number; ``before``: the same of the frames before.

    What does not agree with the newest ``steps`` (3, h, w) by its own errors and theirs is forgotten.
    """
    length = np.sqrt(squares(steps))
    newest = np.ones((4, *length.shape), np.float32)
    shortened = np.multiply(steps, np.float32(FARTHEST) / np.maximum(length, np.float32(FARTHEST)), out=newest[:3])
    if before is None:
        return newest
    share = np.float32(1.0 / AVERAGED) / np.maximum(before[3], np.float32(1e-6))
    apart = shortened - before[:3] * (np.float32(AVERAGED) * share)
    against = squares(apart) / (np.float32(AGREE**2) * (1.0 + share))
    newest += before * (np.float32(AVERAGED) / (1.0 + against * against))
    return newest


def planes(points: torch.Tensor) -> FloatArray:
    """(h, w, 3) points -> a copy (3, h, w), on which arithmetic is several times as fast."""
    return np.array(np.moveaxis(points.numpy(), -1, 0), np.float32, order="C")


def squares(vectors: FloatArray) -> FloatArray:
    """(...) squared lengths of vectors (3, ...)."""
    x, y, z = vectors
    squared: FloatArray = x * x + y * y + z * z
    return squared


def steps_of_pixels(points: FloatArray, match: FloatArray, parts: MaskParts) -> FloatArray:
    """(3, h, w) how view 2's points moved, shares of their distance; 0, like the ``points``, where not told."""
    with np.errstate(all="ignore"):
        distance = np.sqrt(squares(points))
        moved = (match - points) / (distance if parts.distance else np.nanmedian(distance))
        told = np.isfinite(moved[0] + moved[1] + moved[2] + distance)  # of the sum: faster than of each
    if not told.all():
        moved[:, ~told] = points[:, ~told] = 0.0
    return np.clip(moved, -1e3, 1e3).astype(np.float32, copy=False)


def without_strays(values: NDArray[np.floating], blur_px: int = BLUR_PX) -> FloatArray:
    """(h, w) or (h, w, 3), each channel's median over neighbours; nothing may be NaN."""
    return cv2.medianBlur(np.ascontiguousarray(values, np.float32), blur_px)


def doubt(maps: PairMaps) -> FloatArray:
    """(h, w) factor about 1: the image's typical confidence over that around each pixel."""
    least = np.minimum(maps.conf_2.numpy(), maps.conf_match.numpy()) - 1.0
    around = cv2.blur(np.where(np.isfinite(least), least, 0.0).astype(np.float32), (CONFIDENCE_PX, CONFIDENCE_PX))
    return np.clip(np.median(around[::2, ::2]) / np.maximum(around, np.float32(1e-6)), *DOUBT)


def regions(belief: FloatArray, parts: MaskParts = ALL_PARTS) -> MaskArray:
    """(h, w) connected pixels above GOES_ON that hold one above BEGINS and are large enough."""
    goes_on = belief > (GOES_ON if parts.hysteresis else BEGINS)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(goes_on.astype(np.uint8), connectivity=4)
    begun = np.zeros(count, bool)
    begun[labels[belief > BEGINS]] = True
    begun[0] = False
    least = LEAST_SHARE * belief.size if parts.least_area else 0.0
    return (begun & (facts[:, cv2.CC_STAT_AREA] >= least))[labels]
