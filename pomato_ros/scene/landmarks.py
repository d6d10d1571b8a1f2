"""Points at rest that are followed from image to image: what holds pose and scale together across windows.

Each landmark is followed by its looks alone, so it outlives windows and their units. It lies on its ray from where it
was begun; how far is filtered from all that was seen of it: later rays, which triangulate, and the network's depth. The
newest camera is solved on all landmarks at once, each weighed by how well its place is known.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.alignment import DegenerateAlignmentError, RobustScale, robust_scale
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.pnp import PnpFailure, solve_pose
from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp, transform
from pomato_ros.scene.features import PATCH_PX, new_features, softened
from pomato_ros.scene.follow import follow_from
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

MAX_LANDMARKS = 400
MIN_LANDMARKS = 25  # fewer that agree decide nothing
MIN_AGREEING = 0.5  # share of the landmarks that are followed
RANSAC_SHARE = 1.0 / 60.0  # of the long side: largest error of a landmark that takes part
RANSAC_DRAWS = 100
FAR, NEAR = 3, 0  # levels of the image pyramid above the image, from the last image and from the anchor's
STEPS = 10  # most of Lucas and Kanade's on a level
FIRST_PX = 11  # side of the patch that is compared from one image to the next; from the anchor's, features.PATCH_PX,
WIDE_PX = 11  # or this, which slides less but meets two surfaces more often, where depth is worse than
WIDE_FROM = 0.2  # log depth, so that the pose hangs on how well rays meet
PIXEL_STD = 0.25  # px, of a feature that is followed well
POOR_STD = 1.0  # px, along an edge of the texture, where nothing tells a feature's place, and
JUMP_STD = 1.0  # px, in all directions where depth jumps nearby: what is seen there moves with the nearer surface
GREY_STD = 3.0  # grey levels by which an image differs from itself seen from elsewhere
JUMP_STDS = 5.0  # of the network's log depth: what is more is a jump,
JUMP_PX = 7  # within a square of this side
LOG_DEPTH_STD = 0.04  # of a good network's depth, in
WORST_LOG_DEPTH_STD = 0.3  # of any: about what saying the same depth for all pixels comes to
REPEATED_LOOKS = 8.0  # errors last for about so many frames: a look counts as this part of one
GATE = 3.0  # standard deviations beyond which a landmark is not believed
MISSES = 2  # looks in a row at which a landmark may disagree
SOLVER_STEPS = 8
SETTLED = 1e-2  # standard deviations: a shorter step is the last
PLACE_SHARE = 0.008  # of the way, by which a path on landmarks goes astray, one standard deviation
NEW_EVERY = 4  # frames after which gaps are filled with new landmarks,
FEW_LANDMARKS = 160  # or at once with fewer left than these
CELLS = 4  # along the image's long side, within which depths err alike
SHARED_DEPTH = 0.5  # of the depths' variance
LEAST_AHEAD_M = 1e-3  # nearer, and behind, derivatives are those of here: else covariances in pixels become singular


@dataclass(frozen=True, slots=True)
class LandmarkPose:
    """The newest camera among the landmarks."""

    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) in world axes and metres, against the landmarks as a whole
    inlier_ratio: float
    inliers: int
    residual_px: float


@dataclass(slots=True)
class _Rows:
    """Rows of equal length, one a landmark. It was begun in an image, its anchor, and lies on its ray from there."""

    anchors: NDArray[np.int64]  # (n,) which image
    anchor_pixels: PoseArray  # (n, 2) in that image
    origins_world: PoseArray  # (n, 3) of the anchor's camera
    rays_world: PoseArray  # (n, 3), with length 1 along the anchor's optical axis
    log_depth: PoseArray  # (n,) along that axis, metres
    variance: PoseArray  # (n,) of the log depth
    noise: PoseArray  # (n, 2, 2) covariance of where it is seen, px^2
    pixels: PoseArray  # (n, 2) where it was seen last
    misses: NDArray[np.int64]  # (n,) looks in a row at which it disagreed or was not found

    def pick(self, index: MaskArray) -> "_Rows":
        """Some of the landmarks."""
        return _Rows(*(getattr(self, item.name)[index] for item in fields(self)))

    def join(self, other: "_Rows") -> "_Rows":
        """Those of both."""
        return _Rows(*(np.concatenate((getattr(self, i.name), getattr(other, i.name))) for i in fields(self)))

    def places_world(self) -> PoseArray:
        """(n, 3)."""
        return self.origins_world + np.exp(self.log_depth)[:, None] * self.rays_world

    def steps(self) -> PoseArray:
        """(n, 3) one standard deviation of the depth along the ray."""
        return (np.exp(self.log_depth) * np.sqrt(self.variance))[:, None] * self.rays_world

    def spread(self, focal_px: float) -> PoseArray:
        """(n, 3, 3) covariance of the places: the depth's along the ray, the anchor pixel's in all directions."""
        depth, steps = np.exp(self.log_depth), self.steps()
        across = (PIXEL_STD * depth / focal_px) ** 2
        return steps[:, :, None] * steps[:, None, :] + across[:, None, None] * np.eye(3)


class Landmarks:
    """All state: the landmarks, and the images that they were begun in."""

    def __init__(self) -> None:
        """None yet."""
        self.reset()

    def reset(self) -> None:
        """Forget all of them."""
        none, pixels, vectors = np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 3))
        none_each = np.zeros(0)
        self._rows = _Rows(none, pixels, vectors, vectors, none_each, none_each, np.zeros((0, 2, 2)), pixels, none)
        self._images: dict[int, NDArray[np.uint8]] = {}
        self._newest: NDArray[np.uint8] | None = None
        self._found: MaskArray | None = None
        self._places = pixels  # in the image of the last look; of those that were not found, as before
        self._soft: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None  # the last image, as it came and softened
        self._log_depth_std = LOG_DEPTH_STD
        self._patch_px = PATCH_PX
        self._steps = 0

    def locate(self, image_rgb: NDArray[np.uint8], static: MaskArray, intrinsics: Intrinsics) -> LandmarkPose | None:
        """The camera of an image, or None if too few landmarks are found in it again.

        Args:
            image_rgb: (h, w, 3).
            static: (h, w) pixels that may take part.
            intrinsics: of the image.
        """
        self._found = None
        if self._newest is None or len(self._rows.pixels) < MIN_LANDMARKS:
            return None
        places, found = self._follow(self._softened(image_rgb))
        nearest = np.rint(places[found]).astype(int)
        usable = found.copy()
        usable[found] = static[nearest[:, 1], nearest[:, 0]]
        if usable.sum() < MIN_LANDMARKS:
            return None
        rows = self._rows.pick(usable)
        solution = solve_pose(
            places[usable],
            rows.places_world(),
            intrinsics.matrix(),
            threshold_px=RANSAC_SHARE * max(intrinsics.width_px, intrinsics.height_px),
            iterations=RANSAC_DRAWS,
            seed=0,
        )
        if isinstance(solution, PnpFailure):
            return None
        if solution.inliers.sum() < MIN_LANDMARKS or solution.inlier_ratio < MIN_AGREEING:
            return None
        usable[usable] = transform(invert(solution.reference_from_camera), rows.places_world())[:, 2] > LEAST_AHEAD_M
        rows = self._rows.pick(usable)
        self._found = found
        self._places = np.where(found[:, None], places, self._rows.pixels)
        spread = rows.spread(intrinsics.fx_px)
        return solve_on_landmarks(
            solution.reference_from_camera,
            places[usable],
            rows.noise,
            rows.places_world(),
            spread,
            rows.steps(),
            intrinsics,
        )

    def _softened(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """:func:`features.softened`, once for an image that is located and learnt from."""
        if self._soft is None or self._soft[0] is not image_rgb:
            self._soft = (image_rgb, softened(image_rgb))
        return self._soft[1]

    def _follow(self, newest: NDArray[np.uint8]) -> tuple[PoseArray, MaskArray]:
        """Places (n, 2) and which were found (n,): from the last image first, then precisely from each anchor's."""
        rows = self._rows
        assert self._newest is not None  # noqa: S101
        expected, near = follow_from(
            self._newest, newest, rows.pixels, rows.pixels, FIRST_PX, levels=FAR, steps=STEPS, checked=False
        )
        expected = np.where(near[:, None], expected, rows.pixels)
        places, found = expected.copy(), np.zeros(len(near), bool)
        for anchor in np.unique(rows.anchors).tolist():
            here = rows.anchors == anchor
            begun, pixels = self._images[anchor], rows.anchor_pixels[here]
            places[here], found[here] = follow_from(
                begun, newest, pixels, expected[here], self._patch_px, levels=NEAR, steps=STEPS
            )
        return places, found

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        rows = self._rows
        rows.origins_world = centre_world + factor * (rows.origins_world - centre_world)
        rows.log_depth = rows.log_depth + np.log(factor)

    def scale_of(self, depth_units: FloatArray, world_from_camera: PoseArray) -> RobustScale | None:
        """Metres per unit of a depth map (h, w) of the image that was located last; None if it cannot be told."""
        if self._found is None:
            return None
        told = self._found & (self._rows.misses == 0)
        rows = self._rows.pick(told)
        depth = transform(invert(world_from_camera), rows.places_world())[:, 2]
        nearest = np.rint(self._places[told]).astype(int)
        try:
            scale = robust_scale(depth_units[nearest[:, 1], nearest[:, 0]], depth)
        except DegenerateAlignmentError:
            return None
        return scale if scale.count >= MIN_LANDMARKS else None

    def learn(
        self,
        image_rgb: NDArray[np.uint8],
        depth_m: FloatArray,
        static: MaskArray,
        world_from_camera: PoseArray,
        intrinsics: Intrinsics,
        depth_variance_factor: float = 1.0,
    ) -> None:
        """Take in what the located image says of the landmarks, drop those that disagree, and begin new ones.

        ``depth_m`` (h, w) in the unit of the world, without errors of single pixels; its variance is
        ``depth_variance_factor`` times that of a good network (:class:`pomato_ros.scene.trust.PoseTrust`).
        """
        self._log_depth_std = min(LOG_DEPTH_STD * depth_variance_factor**0.5, WORST_LOG_DEPTH_STD)
        self._patch_px = WIDE_PX if self._log_depth_std > WIDE_FROM else PATCH_PX
        if self._found is None:
            self._rows = self._rows.pick(np.zeros(len(self._rows.pixels), bool))
        else:
            self._rows.pixels = self._places
            self._look(self._found, depth_m, static, world_from_camera, intrinsics)
        self._newest, self._found = self._softened(image_rgb), None
        if self._steps % NEW_EVERY == 0 or len(self._rows.pixels) < FEW_LANDMARKS:
            self._begin(depth_m, static, world_from_camera, intrinsics)
        self._steps += 1
        held = set(self._rows.anchors.tolist())
        self._images = {anchor: image for anchor, image in self._images.items() if anchor in held}

    def _look(
        self,
        found: MaskArray,
        depth_m: FloatArray,
        static: MaskArray,
        world_from_camera: PoseArray,
        intrinsics: Intrinsics,
    ) -> None:
        """One more look at each landmark: its depth from the network, and from where its ray is seen."""
        rows = self._rows
        nearest = np.rint(rows.pixels).astype(int)
        moving = found & ~static[nearest[:, 1], nearest[:, 0]]
        places = rows.places_world()
        in_camera = transform(invert(world_from_camera), places)
        residual = project(in_camera, intrinsics.matrix()) - rows.pixels
        by_point = pixels_by_point(places, world_from_camera, intrinsics)
        in_pixels = by_point @ rows.spread(intrinsics.fx_px) @ np.swapaxes(by_point, -1, -2) + rows.noise
        with np.errstate(invalid="ignore"):
            near = np.einsum("ni,nij,nj->n", residual, np.linalg.inv(in_pixels), residual) < GATE**2
        agrees = found & ~moving & near
        rows.misses = np.where(agrees, 0, rows.misses + 1)
        by_depth = np.einsum("nij,nj->ni", by_point, places - rows.origins_world)
        weight = np.linalg.inv(rows.noise) / REPEATED_LOOKS
        rays = np.einsum("ni,nij,nj->n", by_depth, weight, by_depth)
        told = depth_m[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        usable = np.isfinite(told) & (told > 0) & (in_camera[:, 2] > 0)
        miss = np.log(np.where(usable, told, 1.0) / np.where(usable, in_camera[:, 2], 1.0))
        usable &= np.abs(miss) < GATE * np.sqrt(self._log_depth_std**2 + rows.variance)
        network = usable / (self._log_depth_std**2 * REPEATED_LOOKS)
        together = 1.0 / rows.variance + rays + network
        change = (network * miss - np.einsum("ni,nij,nj->n", by_depth, weight, residual)) / together
        rows.log_depth = np.where(agrees, rows.log_depth + change, rows.log_depth)
        rows.variance = np.where(agrees, 1.0 / together, rows.variance)
        self._rows = rows.pick((rows.misses < MISSES) & ~moving)

    def _begin(
        self, depth_m: FloatArray, static: MaskArray, world_from_camera: PoseArray, intrinsics: Intrinsics
    ) -> None:
        """New landmarks at corners of the newest image where there are none."""
        if self._newest is None:
            return
        pixels = new_features(self._newest, self._rows.pixels, MAX_LANDMARKS - len(self._rows.pixels))
        nearest = np.rint(pixels).astype(int)
        depth = depth_m[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        good = np.isfinite(depth) & (depth > 0) & static[nearest[:, 1], nearest[:, 0]]
        pixels, depth = pixels[good], depth[good]
        count = len(pixels)
        self._images[self._steps] = self._newest
        fresh = _Rows(
            anchors=np.full(count, self._steps),
            anchor_pixels=pixels,
            origins_world=np.tile(world_from_camera[:3, 3], (count, 1)),
            rays_world=unproject(pixels, np.ones(count), intrinsics.matrix()) @ world_from_camera[:3, :3].T,
            log_depth=np.log(depth),
            variance=np.full(count, self._log_depth_std**2),
            noise=place_noise(self._newest, depth_m, self._log_depth_std, pixels),
            pixels=pixels.copy(),
            misses=np.zeros(count, np.int64),
        )
        self._rows = self._rows.join(fresh)


def place_noise(grey: NDArray[np.uint8], depth_m: FloatArray, log_depth_std: float, pixels: PoseArray) -> PoseArray:
    """(n, 2, 2) covariance in px^2 of where features will be found that are begun at ``pixels`` (n, 2).

    Lucas and Kanade's normal equations ``G = sum g g^T``, of the gradients in a patch, tell the place to within
    ``GREY_STD^2 G^-1``: well across the edges of a texture, badly along them.

    Args:
        grey: (h, w) the image that they are begun in.
        depth_m: (h, w) of that image.
        log_depth_std: of that depth.
        pixels: (n, 2).
    """
    image = grey.astype(np.float32)
    along_x, along_y = cv2.Scharr(image, cv2.CV_32F, 1, 0) / 32.0, cv2.Scharr(image, cv2.CV_32F, 0, 1) / 32.0
    sums = [
        cv2.boxFilter(one * other, cv2.CV_32F, (PATCH_PX, PATCH_PX), normalize=False)
        for one, other in ((along_x, along_x), (along_x, along_y), (along_y, along_y))
    ]
    x, y = np.rint(pixels).astype(int).T
    xx, xy, yy = (part[y, x].astype(np.float64) for part in sums)
    values, vectors = np.linalg.eigh(np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -2))
    variance = np.clip(GREY_STD**2 / np.maximum(values, 1e-9), PIXEL_STD**2, POOR_STD**2)
    noise = (vectors * variance[:, None, :]) @ np.swapaxes(vectors, -1, -2)
    return noise + JUMP_STD**2 * jumps(depth_m, log_depth_std)[y, x][:, None, None] * np.eye(2)


def jumps(depth_m: FloatArray, log_depth_std: float) -> MaskArray:
    """(h, w) pixels near which a depth map (h, w) jumps, by more than its errors explain, or holds no depth."""
    square = np.ones((JUMP_PX, JUMP_PX), np.uint8)
    depth = np.where(np.isfinite(depth_m), depth_m, 0.0).astype(np.float32)
    nearest: FloatArray = cv2.erode(depth, square)
    farthest: FloatArray = cv2.dilate(depth, square)
    return farthest > np.exp(JUMP_STDS * log_depth_std) * nearest


def pixels_by_point(places_world: PoseArray, world_from_camera: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(n, 2, 3) how pixels change with the points (n, 3) in the world."""
    x, y, z = np.moveaxis(transform(invert(world_from_camera), places_world), -1, 0)
    z = np.maximum(z, LEAST_AHEAD_M)
    zero = np.zeros_like(z)
    by_camera = np.stack(
        (
            np.stack((intrinsics.fx_px / z, zero, -intrinsics.fx_px * x / z**2), axis=-1),
            np.stack((zero, intrinsics.fy_px / z, -intrinsics.fy_px * y / z**2), axis=-1),
        ),
        axis=-2,
    )
    return by_camera @ world_from_camera[:3, :3].T


def solve_on_landmarks(
    world_from_camera: PoseArray,
    pixels: PoseArray,
    noise: PoseArray,
    places_world: PoseArray,
    spread: PoseArray,
    along: PoseArray,
    intrinsics: Intrinsics,
) -> LandmarkPose | None:
    """Weighted least squares from a nearby pose, robust by Cauchy's weights; None if it comes to nothing.

    Args:
        world_from_camera: (4, 4) where to start.
        pixels: (n, 2).
        noise: (n, 2, 2) covariance of the pixels.
        places_world: (n, 3).
        spread: (n, 3, 3) covariance of the places.
        along: (n, 3) the part of it that depth has, one standard deviation along the anchor's ray.
        intrinsics: of the camera.
    """
    pose, step = world_from_camera, np.zeros(6)
    seen, places, depth_steps = (np.ascontiguousarray(part.T) for part in (pixels, places_world, along))
    spreads, noises = np.ascontiguousarray(spread.transpose(1, 2, 0)), np.ascontiguousarray(noise.transpose(1, 2, 0))
    for _ in range(SOLVER_STEPS):
        offset = places - pose[:3, 3:]
        x, y, z = pose[:3, :3].T @ offset
        if not (z > 0).all():
            return None
        residual = np.stack((x * (intrinsics.fx_px / z), y * (intrinsics.fy_px / z)))
        residual += np.array([[intrinsics.cx_px], [intrinsics.cy_px]]) - seen
        by_x, by_y = rows_by_point(x, y, z, pose[:3, :3], intrinsics)
        spread_x, spread_y = (spreads * by_x).sum(axis=1), (spreads * by_y).sum(axis=1)
        xx, yy = (spread_x * by_x).sum(axis=0) + noises[0, 0], (spread_y * by_y).sum(axis=0) + noises[1, 1]
        xy = (spread_x * by_y).sum(axis=0) + noises[0, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.stack((yy, -xy, xx)) / (xx * yy - xy * xy)
            squared = weights[0] * residual[0] ** 2 + weights[2] * residual[1] ** 2
            squared += 2.0 * weights[1] * residual[0] * residual[1]
        if not np.isfinite(squared).all():
            return None
        weights /= 1.0 + squared / GATE
        jacobian_x, jacobian_y = (np.concatenate((-by, _crossed(by, offset))) for by in (by_x, by_y))
        weighted_x = weights[0] * jacobian_x + weights[1] * jacobian_y
        weighted_y = weights[1] * jacobian_x + weights[2] * jacobian_y
        normal = weighted_x @ jacobian_x.T + weighted_y @ jacobian_y.T
        try:
            step = -np.linalg.solve(normal, weighted_x @ residual[0] + weighted_y @ residual[1])
        except np.linalg.LinAlgError:
            return None
        pose = pose_from(rotation_exp(step[3:]) @ pose[:3, :3], pose[:3, 3] + step[:3])
        if step @ normal @ step < SETTLED**2:
            break
    pulls = (weighted_x * (by_x * depth_steps).sum(axis=0) + weighted_y * (by_y * depth_steps).sum(axis=0)).T
    try:
        covariance = np.linalg.inv(normal)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(pose).all():
        return None
    covariance = covariance + covariance @ shared_pulls(pulls, pixels, intrinsics) @ covariance
    agree = squared < 2 * GATE**2
    count = int(agree.sum())
    if count < MIN_LANDMARKS:
        return None
    excess = max(1.0, 0.5 * float(squared[agree].mean()))  # the mean of two squared normals is 2
    residual_px = float(np.sqrt((residual[:, agree] ** 2).sum(axis=0).mean()))
    return LandmarkPose(pose, covariance * excess, float(agree.mean()), count, residual_px)


def rows_by_point(
    x: PoseArray, y: PoseArray, z: PoseArray, rotation: PoseArray, intrinsics: Intrinsics
) -> tuple[PoseArray, PoseArray]:
    """:func:`pixels_by_point` of points x, y, z (n,) in a camera turned by ``rotation`` (3, 3): two of (3, n)."""
    inverse = 1.0 / np.maximum(z, LEAST_AHEAD_M)
    right, down, ahead = (rotation[:, axis, None] for axis in range(3))
    return (
        (right - ahead * (x * inverse)) * (intrinsics.fx_px * inverse),
        (down - ahead * (y * inverse)) * (intrinsics.fy_px * inverse),
    )


def _crossed(a: PoseArray, b: PoseArray) -> PoseArray:
    """(3, n) cross products of columns (3, n), without the price of NumPy's own."""
    return np.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


def shared_pulls(pulls: PoseArray, pixels: PoseArray, intrinsics: Intrinsics) -> PoseArray:
    """(6, 6) by how much the normal equations' right side varies since neighbours' depths err alike.

    A network errs smoothly: SHARED_DEPTH of the depths' variance is common to a cell of the image, so that the pulls of
    a cell add up, ``sum_c (sum_i g_i)(sum_i g_i)^T - sum_i g_i g_i^T`` beyond what independent errors give.

    Args:
        pulls: (n, 6) g, of one standard deviation of each landmark's depth.
        pixels: (n, 2) where the landmarks are seen.
        intrinsics: of the image.
    """
    size_px = max(intrinsics.width_px, intrinsics.height_px) / CELLS
    cells = np.floor((pixels + 0.5) / size_px).astype(int)
    _, owner = np.unique(cells @ (1, 2 * CELLS), return_inverse=True)
    sums = np.zeros((owner.max() + 1, 6))
    np.add.at(sums, owner, pulls)
    return SHARED_DEPTH * (sums.T @ sums - pulls.T @ pulls)
