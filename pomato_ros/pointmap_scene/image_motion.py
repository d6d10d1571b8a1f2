"""What moves as the image alone has it, where the network is too weak to tell: flow that no depth and pose explain.

Where a point at rest may be seen in an earlier frame is a piece of a line: from its direction at infinity along the
epipolar line, as far as the least distance that its depth may have. With a camera that only turned it is a single
point, with a short way it is short, so that nothing has to be known of how much parallax there is. A pixel whose match
is farther from its piece than matches in this image usually are, and which looks different at the piece's nearest
point, has moved. A plane at the typical depth leads flow, which is made for short ways. One earlier frame is looked at
in each step, in turn a near one, where fast movers are found, and far ones, where slow movers are.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import invert
from pomato_ros.pointmap_scene.follow import dense_flow
from pomato_ros.pointmap_scene.moving import carried_along, regions
from pomato_ros.pointmap_scene.scale import scaled_about
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

WORK_PX = 128  # long side that pixels are told on; all px below are of it
FLOW_TIMES = 2  # an image so many times as large is what flow is found in
FRAMES_BACK = (2, 4, 8)  # of the earlier frames that are looked at in turn
NEARER = 3.0  # times, at most, that a point may be nearer than the network has it
NO_LIMIT = 1e3  # the same where it may be anywhere
LEAST_AHEAD = 0.05  # of its depth is a point in front of the earlier camera, at least
RETURN_PX = 1.0  # by which a flow and the flow back may miss a pixel
UNLIKE, UNLIKE_PX = 15.0, 3  # grey levels, over so many px, from which a match is none
LEAST_TOLD = 0.3  # of the image; from fewer matches nothing is learned
FLOOR_PX = 0.5  # from its line that a match at rest may be, at least, and
USUAL = 3.0  # times the image's median, and
BY_RETURN = 2.0  # times what flow and flow back miss
MEDIAN_PX = 3  # of neighbours' distances
LOOKS = 4.0  # grey levels, over LOOKS_PX, that a match is better than the place nearest to it where rest would be
LOOKS_PX = 5
REST, MOTION = -0.4, 2.0  # what a pixel at rest counts for, and at most one that moves
MEMORY = 0.8  # of what was believed
BELIEF = 3.0  # the most that is believed
CLOSED_PX = 9  # holes and bays that are narrower move too


@dataclass(frozen=True, slots=True)
class ImageParts:
    """Which parts of the method take part: all, but where it is measured what each is worth."""

    lead: bool = True  # flow begins where a plane at the typical depth would be seen, else at the same pixel
    depth: bool = True  # a point at rest is no nearer than NEARER has it, else as near as may be
    looks: bool = True  # a pixel that looks alike where rest would have it does not move
    returns: bool = True  # flow that does not lead back tells nothing
    memory: bool = True  # votes of the frames before
    closing: bool = True  # of holes


ALL_PARTS = ImageParts()


@dataclass(frozen=True, slots=True)
class Seen:
    """An earlier frame."""

    grey: NDArray[np.uint8]  # (h, w) px, FLOW_TIMES as large as what pixels are told on
    small: NDArray[np.uint8]  # (h, w) px of those
    world_from_camera: PoseArray  # (4, 4)


@dataclass(frozen=True, slots=True)
class Match:
    """Each pixel of one image in another."""

    x: FloatArray  # (h, w) px
    y: FloatArray  # (h, w) px
    return_px: FloatArray  # (h, w) by which flow and flow back miss the pixel
    inside: MaskArray  # (h, w) the match lies in the other image


class ImageMotion:
    """What is believed to move, from frame to frame."""

    def __init__(self, parts: ImageParts = ALL_PARTS) -> None:
        """Nothing is."""
        self._parts = parts
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._steps = 0
        self.forget()

    def forget(self) -> None:
        """Nothing is known of frames before, as after one without a pose."""
        self._seen: deque[Seen] = deque(maxlen=max(FRAMES_BACK))  # the last frame first
        self._belief: FloatArray | None = None  # (h, w)

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        poses = [scaled_about(seen.world_from_camera, factor, centre_world) for seen in self._seen]
        seen = [Seen(seen.grey, seen.small, pose) for seen, pose in zip(self._seen, poses, strict=True)]
        self._seen = deque(seen, maxlen=self._seen.maxlen)

    def update(
        self,
        image_rgb: NDArray[np.uint8],
        depth_m: FloatArray,
        world_from_camera: PoseArray,
        intrinsics: Intrinsics,
        flow_to_before: FloatArray | None,
    ) -> MaskArray:
        """(h, w) pixels of the newest image that move.

        Args:
            image_rgb: (h, w, 3).
            depth_m: (h, w) in the unit of the world; right within a factor of NEARER, or too near.
            world_from_camera: (4, 4) of the newest camera.
            intrinsics: of the image.
            flow_to_before: (h, w, 2) px from the image to the one before; None: nothing is carried on.
        """
        height, width = image_rgb.shape[:2]
        factor = WORK_PX / max(height, width)
        size_wh = max(1, round(factor * width)), max(1, round(factor * height))
        large = cv2.resize(image_rgb, (FLOW_TIMES * size_wh[0], FLOW_TIMES * size_wh[1]))
        grey = cv2.cvtColor(large, cv2.COLOR_RGB2GRAY)
        newest = Seen(grey, cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA), world_from_camera)
        ahead = ahead_of(depth_m, size_wh)
        told = np.zeros(size_wh[::-1], np.float32)
        back = FRAMES_BACK[self._steps % len(FRAMES_BACK)]
        if ahead is not None and len(self._seen) >= back:
            told = self._told(newest, self._seen[back - 1], ahead, matrix_of(intrinsics, size_wh))
        if self._belief is not None and flow_to_before is not None and self._parts.memory:
            flow = cv2.resize(flow_to_before, size_wh) * np.float32(factor)
            told = told + np.float32(MEMORY) * carried_along(self._belief, flow)
        self._belief = np.clip(told, -BELIEF, BELIEF)
        self._seen.appendleft(newest)
        self._steps += 1
        found = regions(self._belief)
        found = closed(found) if self._parts.closing else found
        if factor == 1.0:
            return found
        return np.asarray(cv2.resize(found.astype(np.float32), (width, height)) > np.float32(0.5))

    def _told(self, newest: Seen, earlier: Seen, ahead: FloatArray, camera_matrix: PoseArray) -> FloatArray:
        """(h, w) evidence for motion since an earlier frame; ``ahead``: (h, w) inverse depth."""
        earlier_from_newest = invert(earlier.world_from_camera) @ newest.world_from_camera
        at_infinity = camera_matrix @ earlier_from_newest[:3, :3] @ np.linalg.inv(camera_matrix)
        epipole = camera_matrix @ earlier_from_newest[:3, 3]
        lead = np.eye(3)
        if self._parts.lead:
            lead = at_infinity.copy()
            lead[:, 2] += float(np.median(ahead)) * epipole
        match = self._match(newest.grey, earlier.grey, lead)
        most_ahead = np.float32(NEARER if self._parts.depth else NO_LIMIT) * ahead
        rest_x, rest_y = nearest_at_rest(match.x, match.y, at_infinity, epipole, most_ahead)
        unlike = cv2.absdiff(newest.small, sampled(earlier.small, match.x, match.y)).astype(np.float32)
        unlike_at_rest = cv2.absdiff(newest.small, sampled(earlier.small, rest_x, rest_y)).astype(np.float32)
        usable = match.inside & (cv2.blur(unlike, (UNLIKE_PX, UNLIKE_PX)) < UNLIKE)
        if self._parts.returns:
            usable &= match.return_px < RETURN_PX
        if usable.mean() < LEAST_TOLD:
            return np.zeros(usable.shape, np.float32)
        apart_px = cv2.medianBlur(cv2.magnitude(match.x - rest_x, match.y - rest_y), MEDIAN_PX)
        noise_px = max(FLOOR_PX, USUAL * float(np.median(apart_px[usable])))
        motion = apart_px / cv2.magnitude(np.full_like(apart_px, noise_px), np.float32(BY_RETURN) * match.return_px)
        evidence = np.clip(motion - np.float32(1.0), REST, MOTION)
        looks = cv2.blur(unlike_at_rest - unlike, (LOOKS_PX, LOOKS_PX)) * np.float32(1.0 / LOOKS)
        if self._parts.looks:
            doubted = np.float32(REST) + np.clip(looks, 0.0, 1.0) * (evidence - np.float32(REST))
            evidence = np.where(evidence > 0, doubted, evidence)
        return np.where(usable, evidence, np.float32(0.0)).astype(np.float32)

    def _match(self, grey: NDArray[np.uint8], earlier: NDArray[np.uint8], lead: PoseArray) -> Match:
        """Each pixel of an image in an earlier one, looked for about where the homography ``lead`` (3, 3) has it."""
        large_from_small = np.array([[FLOW_TIMES, 0.0, (FLOW_TIMES - 1) / 2], [0.0, FLOW_TIMES, (FLOW_TIMES - 1) / 2]])
        large_from_small = np.vstack((large_from_small, (0.0, 0.0, 1.0)))
        height, width = (side // FLOW_TIMES for side in grey.shape)
        led = cv2.warpPerspective(
            earlier,
            large_from_small @ lead @ np.linalg.inv(large_from_small),
            grey.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        there, back = (
            cv2.resize(dense_flow(self._flow, one, other), (width, height), interpolation=cv2.INTER_AREA)
            * np.float32(1.0 / FLOW_TIMES)
            for one, other in ((grey, led), (led, grey))
        )
        x = np.arange(width, dtype=np.float32) + there[..., 0]
        y = np.arange(height, dtype=np.float32)[:, None] + there[..., 1]
        missed = there + sampled(back, x, y)
        in_x, in_y, in_z = (lead[row].astype(np.float32) for row in range(3))
        ahead = np.maximum(in_z[0] * x + in_z[1] * y + in_z[2], np.float32(LEAST_AHEAD))
        far_x = (in_x[0] * x + in_x[1] * y + in_x[2]) / ahead
        far_y = (in_y[0] * x + in_y[1] * y + in_y[2]) / ahead
        inside = within(x, y) & within(far_x, far_y)
        return Match(far_x, far_y, cv2.magnitude(missed[..., 0], missed[..., 1]), inside)


def nearest_at_rest(
    x: FloatArray, y: FloatArray, at_infinity: PoseArray, epipole: PoseArray, most_ahead: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Where each pixel would be seen in an earlier image if it were at rest, as near as may be to its match (px).

    A point with inverse depth r is at ``H p + r e`` in homogeneous pixels, for r from 0 to ``most_ahead``.

    Args:
        x: (h, w) px of the matches of the grid's pixels p.
        y: (h, w) px.
        at_infinity: (3, 3) H, where pixels at infinity go.
        epipole: (3,) e, not normalised: the other camera's matrix times the position in it.
        most_ahead: (h, w) largest inverse depth.
    """
    height, width = x.shape
    right, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    (xx, xy, x1), (yx, yy, y1), (zx, zy, z1) = at_infinity.astype(np.float32)
    e_x, e_y, e_z = epipole.astype(np.float32)
    z = np.maximum(zx * right + (zy * down + z1), np.float32(LEAST_AHEAD))
    far_x, far_y = (xx * right + (xy * down + x1)) / z, (yx * right + (yy * down + y1)) / z
    way_x, way_y = e_x - far_x * e_z, e_y - far_y * e_z  # of a point that comes nearer, not to scale
    longest = most_ahead / np.maximum(z + most_ahead * e_z, np.float32(LEAST_AHEAD))
    length_square = np.maximum(way_x * way_x + way_y * way_y, np.float32(1e-12))
    share = ((x - far_x) * way_x + (y - far_y) * way_y) / length_square
    share = np.clip(share, np.float32(0.0), longest)
    return far_x + share * way_x, far_y + share * way_y


def ahead_of(depth_m: FloatArray, size_wh: tuple[int, int]) -> FloatArray | None:
    """(h, w) inverse depth on a grid of another size; typical where there is none, None if it is nowhere."""
    depth = cv2.resize(depth_m, size_wh, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    known = np.isfinite(depth) & (depth > 0)
    if not known.any():
        return None
    ahead: FloatArray = np.float32(1.0) / np.where(known, depth, np.float32(np.median(depth[known]))).astype(np.float32)
    return ahead


def matrix_of(intrinsics: Intrinsics, size_wh: tuple[int, int]) -> PoseArray:
    """(3, 3) camera matrix of an image that is resized to ``size_wh``."""
    by_x, by_y = size_wh[0] / intrinsics.width_px, size_wh[1] / intrinsics.height_px
    to_size = np.array([[by_x, 0.0, 0.5 * by_x - 0.5], [0.0, by_y, 0.5 * by_y - 0.5], [0.0, 0.0, 1.0]])
    return to_size @ intrinsics.matrix()


def sampled(values: NDArray[np.generic], x: FloatArray, y: FloatArray) -> NDArray[np.generic]:
    """Values (h, w[, c]) at pixels x, y (h, w), bilinear; outside, the border's."""
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def within(x: FloatArray, y: FloatArray) -> MaskArray:
    """(h, w) which pixels x, y (h, w) lie in an image of that size."""
    height, width = x.shape
    return np.asarray((x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1))


def closed(mask: MaskArray) -> MaskArray:
    """(h, w) a mask without holes and bays narrower than CLOSED_PX."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (CLOSED_PX, CLOSED_PX))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc).astype(bool)
