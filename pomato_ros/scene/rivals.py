"""Rival motions of the camera: where movers fill the image, landmarks agree on more than one pose.

Each rigid group of landmarks explains the image by a camera of its own. A fit that starts between two groups can settle
on a compromise that takes a part of each as inliers: a sideways camera explains a near mover before a far wall. Such a
compromise raises the noise level, which widens the gates and confirms it. Here hypotheses are therefore drawn from
subsets of the landmarks, refined and compared at one bounded noise level. The camera is the hypothesis with the largest
surface at rest: what is at rest encloses what moves and lies behind it. Landmarks are spread over the image evenly, so
that each stands for an area that grows with its depth squared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pomato_ros.config import TUNED_WIDTH_PX, OdometryTuning
from pomato_ros.scene.pose import LEAST_DEPTH, Matches, NoiseLevel, PoseFit, displacement, fit_pose, ransac_pose
from pomato_ros.structures import Intrinsics, MaskArray, PoseArray


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A camera and the landmarks that would be at rest if it were right."""

    fit: PoseFit  # at the bounded noise level
    surface: float  # at rest, up to a factor common to all hypotheses of a frame


@dataclass(frozen=True, slots=True)
class Rivalry:
    """The camera with the largest surface at rest, and its rivals."""

    best: Hypothesis
    rivals: tuple[Hypothesis, ...]  # of comparable surface, resting on other landmarks

    def spread(self) -> PoseArray:
        """(6, 6) covariance of choosing among the hypotheses, axes of the best camera.

        ``sum_k p_k d_k d_k^T`` with shares ``p_k`` of the squared surface and displacements ``d_k`` from the best.
        """
        total = self.best.surface**2 + sum(rival.surface**2 for rival in self.rivals)
        covariance = np.zeros((6, 6))
        for rival in self.rivals:
            step = displacement(self.best.fit.world_from_camera, rival.fit.world_from_camera)
            covariance += rival.surface**2 / total * np.outer(step, step)
        return covariance


def camera_among_rivals(
    matches: Matches,
    intrinsics: Intrinsics,
    starts: Sequence[PoseArray],
    noise: NoiseLevel,
    tuning: OdometryTuning,
) -> Rivalry | None:
    """The hypothesis with the largest surface at rest; None where one motion explains nearly all landmarks.

    Motions are not separable where the noise level of pixels, learnt from frames of one motion, exceeds the bound.

    Args:
        matches: landmarks measured in the frame.
        intrinsics: of the image.
        starts: (4, 4) cameras that hypotheses begin at besides those drawn; the first is the present fit.
        noise: variance factors; hypotheses are compared at these, at most ``tuning.rival_noise``.
        tuning: gates and thresholds.
    """
    if noise.pixel > tuning.rival_noise:
        return None
    bounded = NoiseLevel(noise.pixel, min(noise.depth, tuning.rival_noise))
    first = _hypothesis(matches, intrinsics, starts[0], bounded, tuning)
    outliers = first.fit.squared > tuning.gate**2
    if np.count_nonzero(outliers) < max(tuning.least_inliers, tuning.rival_share * len(outliers)):
        return None
    found = [_hypothesis(matches, intrinsics, start, bounded, tuning) for start in starts[1:]]
    gate_px = tuning.rival_gate_px * intrinsics.width_px / TUNED_WIDTH_PX
    for rows in _subsets(matches, intrinsics, outliers):
        proposal = ransac_pose(matches.select(rows), intrinsics, gate_px)
        if proposal is not None:
            found.append(_hypothesis(matches, intrinsics, proposal, bounded, tuning))
    best = first
    for other in found:
        factor = tuning.rival_surface if best is first else 1.0
        enough = np.count_nonzero(other.fit.inliers) >= tuning.least_inliers
        if enough and other.surface > max(factor * first.surface, best.surface):
            best = other
    if not _two_motions(best.fit, tuning):
        return None
    return Rivalry(best, tuple(_distinct(best, [first, *found], tuning)))


def _two_motions(fit: PoseFit, tuning: OdometryTuning) -> bool:
    """Whether most outliers of a fit are beyond twice the gate: another motion, not noise above the bound."""
    outliers = fit.squared > tuning.gate**2
    far = fit.squared > (2.0 * tuning.gate) ** 2
    return bool(np.count_nonzero(far) > tuning.rival_far_share * np.count_nonzero(outliers))


def _hypothesis(
    matches: Matches, intrinsics: Intrinsics, start: PoseArray, noise: NoiseLevel, tuning: OdometryTuning
) -> Hypothesis:
    by_area = replace(matches, surface=matches.surface**2)
    fit = fit_pose(by_area, intrinsics, start, (tuning.gate, tuning.rival_gate), noise)
    return Hypothesis(fit, surface_at_rest(matches, fit, tuning))


def surface_at_rest(matches: Matches, fit: PoseFit, tuning: OdometryTuning) -> float:
    """Surface that the inliers of a fit stand for: the sum of their squared depths, each by how well it agrees.

    A landmark counts by ``1 - d^2 / gate^2`` of its squared Mahalanobis distance.
    """
    agreement = np.maximum(1.0 - fit.squared / tuning.rival_gate**2, 0.0)
    return float((_surfaces(matches, fit, tuning) * agreement).sum())


def surface_share(matches: Matches, fit: PoseFit, tuning: OdometryTuning) -> float:
    """Share 0 .. 1 of the surface of all measured landmarks that the inliers of a fit stand for."""
    surfaces = _surfaces(matches, fit, tuning)
    return float(surfaces[fit.inliers].sum() / surfaces.sum())


def _surfaces(matches: Matches, fit: PoseFit, tuning: OdometryTuning) -> PoseArray:
    """(n,) squared depths in the camera of a fit, bounded from above."""
    pose = fit.world_from_camera
    depth = np.maximum((matches.points_world - pose[:3, 3]) @ pose[:3, 2], LEAST_DEPTH)
    return np.asarray(np.minimum(depth, tuning.most_surface * np.median(depth)) ** 2)


def _subsets(matches: Matches, intrinsics: Intrinsics, outliers: MaskArray) -> Iterator[MaskArray]:
    """Rows that are likely to hold mostly one rigid group: the outliers, what is far, what is farther, the border."""
    yield outliers
    for quantile in (0.5, 0.75):
        yield matches.surface >= np.quantile(matches.surface, quantile)
    size = np.array([intrinsics.width_px, intrinsics.height_px])
    yield (np.abs(matches.seen / size - 0.5) > 0.35).any(axis=1)


def _distinct(best: Hypothesis, others: Sequence[Hypothesis], tuning: OdometryTuning) -> Iterator[Hypothesis]:
    """Those of comparable surface whose inliers are mostly outliers of the ones before, largest first."""
    taken = best.fit.inliers
    for other in sorted(others, key=lambda hypothesis: -hypothesis.surface):
        inliers = np.count_nonzero(other.fit.inliers)
        shared = np.count_nonzero(other.fit.inliers & taken)
        comparable = other.surface > tuning.ambiguous_surface * best.surface and inliers >= tuning.least_inliers
        if comparable and shared < 0.5 * inliers:
            yield other
            taken = taken | other.fit.inliers
