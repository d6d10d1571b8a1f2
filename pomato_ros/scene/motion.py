"""Which pixels of the newest frame move: one test of flow against rest at several gaps, with memory.

For each gap, a point at rest has its most probable place in the earlier frame (:mod:`pomato_ros.scene.rest`); where the
depth is unknown that is a piece of the epipolar line. The residual r of flow, of variance v (flow, depth and pose
together), gives log-odds ``ln N(r; v + m^2) / N(r; v)``, m the usual motion of what moves, within limits, so that what
is uncertain says little. They count for motion only where rest explains the image worse than flow does, and for rest
only where there is texture. A depth camera adds what is seen in free space (:mod:`pomato_ros.scene.free_space`). The
sum is carried to the next frame by flow, fades there, and is completed over segments of the image; regions begin at
high log-odds and end at low ones.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MotionTuning, TwoViewTuning
from pomato_ros.geometry.camera import resize_homography
from pomato_ros.scene.appearance import mismatch_at_rest, preference_for_match
from pomato_ros.scene.flow import grid, sample, scaled, structure
from pomato_ros.scene.free_space import DepthGrid, RestView, free_space_evidence, rest_view
from pomato_ros.scene.motion_regions import completed, guided, regions
from pomato_ros.scene.rest import Matches, PairGeometry, geometry_of, jacobian, pose_variance, refined, rest_of
from pomato_ros.scene.two_view import pair_geometry
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    FloatArray,
    Intrinsics,
    MaskArray,
    MotionEvidence,
    PoseArray,
    PosePrior,
)

LEAST_MATCHES = 32  # with fewer no pose is refined
QUARTILE_OF_SQUARE = 0.3  # lower quartile of a squared residual with one or two degrees of freedom


@dataclass(frozen=True, slots=True, eq=False)
class MotionState:
    """What moves in the newest frame."""

    log_odds: FloatArray  # (h, w) ln(p / (1 - p)) that a pixel moves
    mask: MaskArray  # (h, w)
    facts: dict[str, float] = field(default_factory=dict)  # for diagnostics, by name


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A frame on the grid of pixels that residuals are computed on."""

    gray: NDArray[np.uint8]  # (h, w)
    depth: DepthGrid | None


class MotionSegmenter:
    """Log-odds of motion of every pixel, carried from frame to frame."""

    def __init__(self, tuning: MotionTuning | None = None, two_view: TwoViewTuning | None = None) -> None:
        """Nothing is known to move.

        Args:
            tuning: gaps, standard deviations and gates; None: the defaults.
            two_view: how a relative pose is found where none is given; None: the defaults.
        """
        self._tuning = tuning or MotionTuning()
        self._two_view = two_view or TwoViewTuning()
        self.reset()

    def reset(self) -> None:
        """Remove all frames and all that was found."""
        self._views: deque[_View] = deque(maxlen=max(self._tuning.gaps) + 1)  # newest first
        self._log_odds: FloatArray | None = None  # (h, w) on the grid
        self._steps = 0

    def next_gaps(self) -> tuple[int, ...]:
        """Gaps whose correspondence the next :meth:`update` asks for; the first is 1."""
        return 1, *(gap for gap in self._gaps(len(self._views) + 1) if gap > 1)

    def update(
        self,
        gray: NDArray[np.uint8],
        intrinsics: Intrinsics,
        correspondence: Callable[[int], Correspondence | None],
        *,
        depth: DepthMap | None = None,
        pose: Callable[[int], PosePrior | None] | None = None,
        evidence: MotionEvidence | None = None,
        valid: MaskArray | None = None,
    ) -> MotionState:
        """Compare the newest frame with some earlier ones.

        Args:
            gray: (h, w) the newest image.
            intrinsics: of the image.
            correspondence: flow to earlier frames by gap, as of :class:`pomato_ros.scene.flow.FlowCache`; gaps count
                the frames of earlier calls.
            depth: of the newest frame; None: unknown everywhere.
            pose: relative camera poses by gap, in the unit of ``depth``; None, or where it gives None: estimated from
                flow, which takes the larger part of the image to be at rest.
            evidence: log-odds of motion from the source.
            valid: (h, w) pixels that show the scene; None: all.
        """
        size_wh = self._grid_size(gray.shape)
        small = cv2.resize(gray, size_wh, interpolation=cv2.INTER_AREA)
        grid_depth = None if depth is None else DepthGrid.of(depth, size_wh, self._tuning)
        self._views.appendleft(_View(small, grid_depth))
        scale = resize_homography(size_wh[0] / gray.shape[1], size_wh[1] / gray.shape[0])
        total, facts = self._compared(scale @ intrinsics.matrix(), correspondence, pose)
        if evidence is not None:
            total += np.clip(
                cv2.resize(evidence.log_odds, size_wh, interpolation=cv2.INTER_AREA),
                -self._tuning.most_rest,
                self._tuning.most_motion,
            )
        step = correspondence(1)
        if self._log_odds is not None and step is not None:
            total += self._carried(self._log_odds, step)
        self._log_odds = np.clip(total, -self._tuning.most_log_odds, self._tuning.most_log_odds)
        self._steps += 1
        return self._state(gray, valid, facts)

    def _grid_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Width and height of the grid for an image of ``shape`` (h, w)."""
        factor = min(1.0, self._tuning.work_side_px / max(shape))
        return max(1, round(factor * shape[1])), max(1, round(factor * shape[0]))

    def _compared(
        self,
        camera_matrix: PoseArray,
        correspondence: Callable[[int], Correspondence | None],
        pose: Callable[[int], PosePrior | None] | None,
    ) -> tuple[FloatArray, dict[str, float]]:
        """(h, w) sum of the log-odds of this step's gaps, on the grid, and facts."""
        total, facts = np.zeros(self._views[0].gray.shape, np.float32), {}
        for gap in self._gaps(len(self._views)):
            flow = correspondence(gap)
            if flow is None:
                continue
            log_odds, noise_factor = self._compared_at(flow, camera_matrix, None if pose is None else pose(gap))
            total += log_odds
            facts[f"flow_noise_factor_gap_{gap}"] = noise_factor
        return total, facts

    def _gaps(self, frames: int) -> list[int]:
        """The gaps of this step, in turn over all that ``frames`` are enough for."""
        gaps = [gap for gap in self._tuning.gaps if gap < frames]
        count = min(self._tuning.gaps_per_step, len(gaps))
        return [gaps[(self._steps * count + index) % len(gaps)] for index in range(count)]

    def _compared_at(
        self, flow: Correspondence, camera_matrix: PoseArray, given: PosePrior | None
    ) -> tuple[FloatArray, float]:
        """(h, w) log-odds of motion since one earlier frame, and the factor by which flow's variance was too small."""
        newest, earlier = self._views[0], self._views[flow.gap]
        pixels, sigma_px, usable = on_grid(flow, newest.gray.shape)
        matches = self._matches(pixels, sigma_px, newest.depth)
        found = self._geometry(self._thinned(matches, usable), camera_matrix, given)
        if found is None or not usable.any():
            return np.zeros(usable.shape, np.float32), 1.0
        geometry, pose = found
        view = None
        if given is not None and newest.depth is not None and earlier.depth is not None:
            view = rest_view(newest.depth, earlier.depth, geometry, self._tuning)
            usable = usable & ~view.hidden
        flow_odds, factor = self._flow_odds(flow.gap, matches, geometry, pose, camera_matrix, usable)
        if view is not None:
            flow_odds += free_space_evidence(view, self._tuning) + self._seen_elsewhere(flow.gap, view, usable)
        return flow_odds, factor

    def _geometry(
        self, few: Matches, camera_matrix: PoseArray, given: PosePrior | None
    ) -> tuple[PairGeometry, PosePrior | None] | None:
        """Where points at rest go: by the given pose, refined, else by flow alone; None: that is not known."""
        if len(few.x) < LEAST_MATCHES:
            return None
        if given is None:
            return pair_geometry(few, camera_matrix, self._two_view)
        pose = refined(few, given, camera_matrix, self._two_view)
        return geometry_of(pose.earlier_from_newest, camera_matrix), pose

    def _matches(self, pixels: FloatArray, sigma_px: FloatArray, depth: DepthGrid | None) -> Matches:
        """Every pixel of the grid with its flow and depth."""
        own = grid(*sigma_px.shape)
        unknown = np.zeros(sigma_px.size, np.float32)
        return Matches(
            x=own[..., 0].ravel(),
            y=own[..., 1].ravel(),
            to_x=pixels[..., 0].ravel(),
            to_y=pixels[..., 1].ravel(),
            variance=(sigma_px * sigma_px).ravel() + np.float32(self._tuning.least_sigma_px**2),
            inverse_depth=unknown if depth is None else depth.inverse_depth.ravel(),
            weight=unknown if depth is None else depth.weight.ravel(),
        )

    def _thinned(self, matches: Matches, usable: MaskArray) -> Matches:
        """The usable ones of every few rows and columns."""
        step = self._tuning.fit_stride_px
        chosen = np.zeros(usable.shape, bool)
        chosen[step // 2 :: step, step // 2 :: step] = usable[step // 2 :: step, step // 2 :: step]
        return matches.chosen(np.flatnonzero(chosen))

    def _flow_odds(
        self,
        gap: int,
        matches: Matches,
        geometry: PairGeometry,
        pose: PosePrior | None,
        camera_matrix: PoseArray,
        usable: MaskArray,
    ) -> tuple[FloatArray, float]:
        """(h, w) log-odds that the residuals of flow give, and the factor by which its variance was too small."""
        rest = rest_of(matches, geometry)
        variance = matches.variance
        if pose is not None:
            slopes = jacobian(rest, matches, pose.earlier_from_newest, camera_matrix)
            variance = variance + pose_variance(*slopes, pose.covariance)
        square = rest.square * matches.variance / variance
        factor = (
            max(1.0, float(np.quantile(square[usable.ravel()], 0.25)) / QUARTILE_OF_SQUARE) if usable.any() else 1.0
        )
        odds = self._log_odds_of(square / factor, variance * np.float32(factor)).reshape(usable.shape)
        images = self._views[0].gray, self._views[gap].gray
        at_match = cv2.merge([array.reshape(usable.shape) for array in (matches.to_x, matches.to_y)])
        at_rest = cv2.merge([array.astype(np.float32).reshape(usable.shape) for array in (rest.x, rest.y)])
        preferred = preference_for_match(*images, at_match, at_rest, self._tuning)
        textured = np.clip(np.sqrt(structure(images[0])) / np.float32(self._tuning.texture_levels), 0.0, 1.0)
        return np.where(usable, odds * np.where(odds > 0, preferred, textured), np.float32(0.0)), factor

    def _log_odds_of(self, square: FloatArray, variance: FloatArray) -> FloatArray:
        """(n,) log-odds of squared residuals, in standard deviations, with ``variance`` px^2."""
        spread = variance + np.float32(self._tuning.motion_px**2)
        odds = 0.5 * square * (1.0 - variance / spread) - 0.5 * np.log(spread / variance)
        return np.clip(odds, -self._tuning.most_rest, self._tuning.most_motion).astype(np.float32)

    def _seen_elsewhere(self, gap: int, view: RestView, usable: MaskArray) -> FloatArray:
        """(h, w) log-odds where flow found nothing, but depth says where rest would be, and the image differs there."""
        chosen = view.known & ~view.hidden & ~usable
        return mismatch_at_rest(self._views[0].gray, self._views[gap].gray, view.pixels, chosen, self._tuning)

    def _carried(self, log_odds: FloatArray, step: Correspondence) -> FloatArray:
        """(h, w) what the last frame's log-odds say of the newest one."""
        pixels, _, found = on_grid(step, log_odds.shape)
        retention = np.where(found, self._tuning.retention, self._tuning.retention_hidden).astype(np.float32)
        return sample(log_odds, pixels) * retention

    def _state(self, gray: NDArray[np.uint8], valid: MaskArray | None, facts: dict[str, float]) -> MotionState:
        """The log-odds on every pixel of the image, with edges of the image, and the regions that move."""
        if self._log_odds is None:
            raise RuntimeError("expected log-odds of the newest frame; call update")
        whole = completed(self._log_odds, self._views[0].gray, self._views[0].depth, self._tuning)
        radius_px = max(1, round(self._tuning.edge_radius_px * gray.shape[1] / whole.shape[1]))
        large = cv2.resize(whole, gray.shape[::-1], interpolation=cv2.INTER_LINEAR)
        log_odds = guided(large, gray, radius_px, self._tuning.edge_levels)
        if valid is not None:
            log_odds = np.where(valid, log_odds, np.float32(0.0))
        mask = regions(log_odds, self._tuning)
        return MotionState(log_odds, mask, {**facts, "moving_share": float(mask.mean())})


def on_grid(flow: Correspondence, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray, MaskArray]:
    """Pixels (h, w, 2), standard deviation (h, w) and visibility (h, w) of a correspondence on a smaller grid."""
    height, width = flow.visible.shape
    size_wh = shape[1], shape[0]
    if (height, width) == tuple(shape):
        return flow.pixels, flow.sigma_px, flow.visible
    by = size_wh[0] / width, size_wh[1] / height
    shift = scaled(cv2.resize(flow.pixels - grid(height, width), size_wh, interpolation=cv2.INTER_AREA), *by)
    sigma_px = cv2.resize(flow.sigma_px, size_wh, interpolation=cv2.INTER_AREA) * np.float32(max(by))
    visible = cv2.resize(flow.visible.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) > np.float32(0.5)
    return shift + grid(shape[0], shape[1]), sigma_px, visible
