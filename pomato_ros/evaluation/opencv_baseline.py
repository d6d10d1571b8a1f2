"""What a user could write with OpenCV in an afternoon: dense optical flow, essential matrix, triangulation.

Nothing here is learned. It sees the very pixels that the network sees, and is given the camera matrix.

- Flow: DIS (Kroeger et al. 2016), there and back; pixels whose flows do not return are left out.
- Odometry, from frame to frame: where turning alone explains the flow, the camera turned; else the essential matrix by
  RANSAC with local optimisation gives rotation and direction. The step's length is the median ratio of the depth given
  for the frame before to the depth triangulated with a step of one; the first step is one. So a sequence has one
  unknown scale, as a single camera's must, and that scale drifts.
- Depth: each pixel and its match :data:`GAP_FRAMES` before, triangulated with the odometry's poses (the midpoint of two
  rays, Hartley and Sturm 1997). Pixels without one keep the value of the frame before, carried by the flow, so that
  every pixel has an answer, as the network's have.
- What moves: matches that miss their epipolar line (Sampson distance) or would lie behind a camera.
- Tracks: flow from frame to frame, and the depth found where it leads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.clip_tracks import LONG_TRACK_FRAMES, TRACK_FRAMES, query_pixels, track_truth
from pomato_ros.evaluation.grading import Grade, SequenceRun, SequenceTruth, grade
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import compose, invert, pose_from
from pomato_ros.synthetic.clip import Clip

GAP_FRAMES = 3  # over which depth is triangulated and motion tested: more baseline than from frame to frame
ENLARGED_TO_PX = 256  # images with a smaller long side are enlarged for the flow, which is made for larger ones
GRID_PX = 2  # of the matches that the essential matrix is made of
RETURN_PX = 0.5  # matches whose flow there and back misses their pixel by more are left out
RANSAC_PX = 0.5
RANSAC_CONFIDENCE = 0.999
FEWEST_MATCHES = 30
LEAST_PARALLAX_PX = 0.3  # median over matches of what the best rotation leaves
IRLS_STEPS = 8
LEAST_PIXEL_PARALLAX_PX = 0.3  # of a pixel that gets a depth
LEAST_RESIDUAL = 1e-4  # of unit rays
MOVING_PX = 1.5  # distance from the epipolar line
OPENING_PX = 3  # a moving area that is thinner counts as noise
FARTHEST = 10.0  # in median depths of the frame; what seems farther is noise


def perceive(images_rgb: Sequence[NDArray[np.uint8]], camera_matrix: NDArray[np.float64]) -> SequenceRun:
    """Depth, poses and masks of images (h, w, 3) of one camera (3, 3); the unit is the first step's length."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images_rgb]
    count, (height, width) = len(grey), grey[0].shape
    run = SequenceRun(
        depth=np.full((count, height, width), np.nan, np.float32),
        confidence=np.full((count, height, width), np.nan, np.float32),
        moving=np.zeros((count, height, width), bool),
        world_from_camera=np.tile(np.eye(4), (count, 1, 1)),
        answered=np.ones(count, bool),
        located=np.ones(count, bool),
    )
    run.depth[0] = 1.0  # until there is a second frame
    for t in range(1, count):
        near = match(grey[t], grey[t - 1])
        unit_step = relative_pose(near, camera_matrix)
        step = step_length(near, unit_step, run.depth[t - 1], camera_matrix) if t > 1 else 1.0
        unit_step[:3, 3] *= step
        run.world_from_camera[t] = compose(run.world_from_camera[t - 1], unit_step)
        r = max(0, t - GAP_FRAMES)
        far = match(grey[t], grey[r])
        r_from_t = compose(invert(run.world_from_camera[r]), run.world_from_camera[t])
        depth, run.moving[t] = depth_and_moving(far, r_from_t, camera_matrix)
        if t == 1:
            r_from_t = invert(r_from_t)
            run.depth[0] = filled(depth_and_moving(match(grey[0], grey[1]), r_from_t, camera_matrix)[0], None)
        run.depth[t] = filled(depth, sampled(run.depth[t - 1].astype(np.float64), near.pixels_r))
    return run


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The pixels of t found again in r."""

    pixels_t: NDArray[np.float64]  # (h, w, 2), the grid
    pixels_r: NDArray[np.float64]  # (h, w, 2)
    trusted: NDArray[np.bool_]  # (h, w), the flow returns and stays inside


def match(grey_t: NDArray[np.uint8], grey_r: NDArray[np.uint8]) -> Matches:
    """Every pixel of a grey image (h, w) in another one."""
    height, width = grey_t.shape
    grid = pixel_grid(height, width)
    there, back = flow(grey_t, grey_r), flow(grey_r, grey_t)
    pixels_r = grid + there
    missed_px = np.linalg.norm(there + sampled(back, pixels_r), axis=-1)
    inside = ((pixels_r >= 0) & (pixels_r <= (width - 1, height - 1))).all(axis=-1)
    return Matches(grid, pixels_r, inside & (missed_px < RETURN_PX))


def depth_and_moving(
    matches: Matches, r_from_t: NDArray[np.float64], camera_matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Depth (h, w) of t in the unit of the pose (4, 4), NaN where there is none, and what does not fit the pose."""
    shape = matches.trusted.shape
    turned = rotated_pixels(matches.pixels_t, r_from_t[:3, :3], camera_matrix)
    parallax_px = np.linalg.norm(turned - matches.pixels_r, axis=-1)
    if not r_from_t[:3, 3].any():
        return np.full(shape, np.nan), opened(matches.trusted & (parallax_px > MOVING_PX))
    depth_t, depth_r = triangulated(matches.pixels_t, matches.pixels_r, r_from_t, camera_matrix)
    behind = ((depth_t <= 0) | (depth_r <= 0)) & (parallax_px > MOVING_PX)
    off_line = sampson_px(matches.pixels_t, matches.pixels_r, r_from_t, camera_matrix) > MOVING_PX
    known = matches.trusted & (depth_t > 0) & (depth_r > 0) & ~off_line & (parallax_px > LEAST_PIXEL_PARALLAX_PX)
    farthest = FARTHEST * np.median(depth_t[known]) if known.any() else 0.0
    return np.where(known & (depth_t < farthest), depth_t, np.nan), opened(matches.trusted & (off_line | behind))


def flow(grey_from: NDArray[np.uint8], grey_to: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Dense flow (h, w, 2) in px from one image (h, w) to another."""
    height, width = grey_from.shape
    factor = max(1, round(ENLARGED_TO_PX / max(height, width)))
    large = [
        cv2.resize(image, (factor * width, factor * height), interpolation=cv2.INTER_CUBIC) if factor > 1 else image
        for image in (grey_from, grey_to)
    ]
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = method.calc(large[0], large[1], None)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA).astype(np.float64) / factor


def sampled(values: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values (h, w[, c]) at pixels (..., 2), bilinear; at the border the border's."""
    shape = pixels.shape[:-1]
    x, y = (pixels[..., axis].astype(np.float32).reshape(shape[0], -1) for axis in (0, 1))
    found = cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(*shape, *values.shape[2:]).astype(np.float64)


def relative_pose(matches: Matches, camera_matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """``r_from_t`` (4, 4) with a translation of length one, zero where the camera only turned or nothing was found.

    Of the two rotations in an essential matrix the smaller one is taken, since these are frames of a video.
    """
    chosen = np.zeros_like(matches.trusted)
    chosen[::GRID_PX, ::GRID_PX] = matches.trusted[::GRID_PX, ::GRID_PX]
    pixels_t, pixels_r = matches.pixels_t[chosen], matches.pixels_r[chosen]
    if len(pixels_t) < FEWEST_MATCHES:
        return np.eye(4)
    only_turned, parallax_px = turned_only(pixels_t, pixels_r, camera_matrix)
    if parallax_px < LEAST_PARALLAX_PX:
        return only_turned
    cv2.setRNGSeed(0)
    essential, inliers = cv2.findEssentialMat(
        pixels_t, pixels_r, camera_matrix, cv2.USAC_ACCURATE, RANSAC_CONFIDENCE, RANSAC_PX
    )
    if essential is None or essential.shape != (3, 3):
        return only_turned
    first, second, direction = cv2.decomposeEssentialMat(essential)
    rotation = first if np.trace(first) > np.trace(second) else second
    used = inliers[:, 0].astype(bool)
    candidates = [pose_from(rotation, sign * direction[:, 0]) for sign in (1.0, -1.0)]
    in_front = [
        sum(int((depth > 0).sum()) for depth in triangulated(pixels_t[used], pixels_r[used], pose, camera_matrix))
        for pose in candidates
    ]
    return candidates[int(in_front[1] > in_front[0])]


def rotated_pixels(
    pixels: NDArray[np.float64], rotation: NDArray[np.float64], camera_matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where pixels (..., 2) go when the camera (3, 3) only turns by ``rotation`` (3, 3)."""
    rays = unproject(pixels, np.ones(pixels.shape[:-1]), camera_matrix)
    return project(rays @ rotation.T, camera_matrix)


def turned_only(
    pixels_t: NDArray[np.float64], pixels_r: NDArray[np.float64], camera_matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """The pose (4, 4) of a camera that only turned, and the median px that it leaves of matches (n, 2) and (n, 2).

    The rotation of least absolute distance between unit rays: Kabsch's, reweighted.
    """
    rays_t, rays_r = (unproject(pixels, np.ones(len(pixels)), camera_matrix) for pixels in (pixels_t, pixels_r))
    rays_t, rays_r = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) for rays in (rays_t, rays_r))
    rotation, weight = np.eye(3), np.ones(len(rays_t))
    for _ in range(IRLS_STEPS):
        left, _, right = np.linalg.svd((rays_r * weight[:, None]).T @ rays_t)
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        weight = 1.0 / np.maximum(np.linalg.norm(rays_r - rays_t @ rotation.T, axis=-1), LEAST_RESIDUAL)
    parallax_px = np.linalg.norm(project(rays_t @ rotation.T, camera_matrix) - pixels_r, axis=-1)
    return pose_from(rotation, np.zeros(3)), float(np.nanmedian(parallax_px))


def triangulated(
    pixels_t: NDArray[np.float64],
    pixels_r: NDArray[np.float64],
    r_from_t: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depths a (...) in t and b (...) in r where rays of matches (..., 2) are nearest: least ``|a R u + p - b v|``."""
    ones = np.ones(pixels_t.shape[:-1])
    u = unproject(pixels_t, ones, camera_matrix) @ r_from_t[:3, :3].T
    v = unproject(pixels_r, ones, camera_matrix)
    p = r_from_t[:3, 3]
    uu, vv, uv = (u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1)
    up, vp = u @ p, v @ p
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = uu * vv - uv * uv
        return (uv * vp - vv * up) / determinant, (uu * vp - uv * up) / determinant


def sampson_px(
    pixels_t: NDArray[np.float64],
    pixels_r: NDArray[np.float64],
    r_from_t: NDArray[np.float64],
    camera_matrix: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(h, w) first-order distance in px of matches from their epipolar lines (Hartley and Zisserman, eq. 11.9)."""
    x, y, z = r_from_t[:3, 3]
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    inverse = np.linalg.inv(camera_matrix)
    fundamental = inverse.T @ cross @ r_from_t[:3, :3] @ inverse
    ones = np.ones((*pixels_t.shape[:2], 1))
    one, other = np.concatenate((pixels_t, ones), -1), np.concatenate((pixels_r, ones), -1)
    line_r, line_t = one @ fundamental.T, other @ fundamental
    norm = np.sqrt((line_r[..., :2] ** 2).sum(-1) + (line_t[..., :2] ** 2).sum(-1))
    return np.abs((other * line_r).sum(-1)) / np.maximum(norm, 1e-12)


def opened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask (h, w) without its thin parts."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (OPENING_PX, OPENING_PX))
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel).astype(bool)


def step_length(
    matches: Matches, unit_step: NDArray[np.float64], depth_r: NDArray[np.float32], camera_matrix: NDArray[np.float64]
) -> float:
    """How long a step of length one (4, 4) is in the unit of r's depth (h, w): the median ratio of depths, else 0."""
    if not unit_step[:3, 3].any():
        return 0.0
    depth_t, found_r = triangulated(matches.pixels_t, matches.pixels_r, unit_step, camera_matrix)
    ratio = sampled(depth_r.astype(np.float64), matches.pixels_r) / found_r
    usable = matches.trusted & (depth_t > 0) & (found_r > 0) & np.isfinite(ratio)
    return float(np.median(ratio[usable])) if usable.any() else 0.0


def filled(depth: NDArray[np.float64], before: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Depth (h, w) with that of the frame before where there is none, and without one with the median, or else 1."""
    known = np.isfinite(depth)
    middle = float(np.median(depth[known])) if known.any() else 1.0
    return np.where(known, depth, middle if before is None else before).astype(np.float32)


def follow_pixels(
    images_rgb: Sequence[NDArray[np.uint8]],
    depth: NDArray[np.float32],
    camera_matrix: NDArray[np.float64],
    pixels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Pixels (n, 2) of the first image by flow from frame to frame -> (t, n, 3) in the camera of each frame."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images_rgb]
    size = np.array([grey[0].shape[1] - 1, grey[0].shape[0] - 1], np.float64)
    places = [pixels.astype(np.float64)]
    for before, after in zip(grey, grey[1:], strict=False):
        moved = places[-1] + sampled(flow(before, after), places[-1][None])[0]
        places.append(np.clip(moved, 0.0, size))
    found = [
        unproject(place, sampled(values.astype(np.float64), place[None])[0], camera_matrix)
        for place, values in zip(places, depth, strict=True)
    ]
    return np.stack(found)


def grade_opencv(clip: Clip, truth: SequenceTruth, seed: int) -> Grade:
    """Every score of the pipeline on a rendered clip, whose camera is given; ``seed`` picks the points to follow."""
    images = [image.numpy() for image in clip.images]
    matrix = clip.intrinsics.matrix()
    run = perceive(images, matrix)
    rows, columns = query_pixels(clip, seed)
    pixels = np.stack((columns, rows), axis=-1).astype(np.float64)
    scores = {}
    for frames in (TRACK_FRAMES, LONG_TRACK_FRAMES):
        if frames > len(clip):
            continue
        followed = follow_pixels(images[:frames], run.depth[:frames], matrix, pixels)
        scores[f"apd{frames}"] = track_truth(clip, (rows, columns), frames).apd(followed[1:])
    return grade(run, truth, **scores)
