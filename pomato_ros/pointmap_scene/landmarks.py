"""Points at rest that are followed from image to image: what holds pose and scale together across windows.

Each landmark is followed by its looks alone, so it outlives windows and their units. It lies on its ray from where it
was begun; how far is filtered from all that was seen of it: later rays, which triangulate, and the network's depth. The
newest camera is solved on all landmarks at once, each weighed by how well its place is known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from pomato_ros.geometry.alignment import DegenerateAlignmentError, RobustScale, robust_scale
from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.pnp import PnpFailure, in_camera, linearised, solve_pose
from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp, transform
from pomato_ros.pointmap_scene.features import PATCH_PX, SoftImage, new_features
from pomato_ros.pointmap_scene.follow import follow_from
from pomato_ros.pointmap_scene.looks import Sheets
from pomato_ros.pointmap_scene.surface import jumps_at
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

MAX_LANDMARKS = 400
MIN_LANDMARKS = 25  # fewer that agree decide nothing
MIN_AGREEING = 0.5  # share of the landmarks that are followed,
MOST_AGREEING = 0.7  # of the few of them that tell where the others are
RANSAC_SHARE = 1.0 / 60.0  # of the long side: largest error of a landmark that takes part
RANSAC_DRAWS = 100
FAR, NEAR = 3, 0  # levels of the image pyramid above the image, from the last image and from the anchor's
STEPS = 10  # most of Lucas and Kanade's on a level
FEW_PX, FIRST_PX = 7, 11  # side of the patch that is compared from one image to the next, in halves and in wholes
# From the anchor's image it is features.PATCH_PX, or where depth is worse than WIDE_FROM, so that the pose hangs on how
# well rays meet, WIDE_PX: a wide patch slides less, but meets two surfaces more often.
WIDE_PX = 11
WIDE_FROM = 0.2  # log depth
FEW = 60  # landmarks that tell roughly where the camera is, so that the others are looked for near their places
PIXEL_STD = 0.25  # px, of a feature that is followed well
POOR_STD = 1.0  # px, along an edge of the texture, where nothing tells a feature's place, and
JUMP_STD = 1.0  # px, in all directions where depth jumps nearby: what is seen there moves with the nearer surface
GREY_STD = 3.0  # grey levels by which an image differs from itself seen from elsewhere
JUMP_STDS = 5.0  # of the network's log depth: what is more is a jump,
JUMP_PX = 7  # within a square of this side, odd
LOG_DEPTH_STD = 0.04  # of a good network's depth, in
WORST_LOG_DEPTH_STD = 0.3  # of any: about what saying the same depth for all pixels comes to
REPEATED_LOOKS = 8.0  # errors last for about so many frames: a look counts as this part of one
GATE = 3.0  # standard deviations beyond which a landmark is not believed
MISSES = 2  # looks in a row at which a landmark may disagree
SOLVER_ROUNDS = 4  # most of them; each takes anew how pixels change with the pose
SOLVER_STEPS = 10  # most in a round; each weighs the landmarks anew
SETTLED = 1e-1  # standard deviations: a shorter step is the last,
STRAIGHT = 40.0  # and a round that came no farther;
ROUGHLY_SETTLED, ROUGHLY_STRAIGHT = 0.3, 100.0  # the same where it only tells where to look
PLACE_SHARE = 0.008  # of the way, by which a path on a good network's landmarks goes astray, one std
NEW_EVERY = 4  # frames after which gaps are filled with new landmarks, with usual windows not in those that begin one,
FEW_LANDMARKS = 160  # or at once with fewer left than these
CELLS = 4  # along the image's long side, within which depths err alike
SHARED_DEPTH = 0.5  # of the depths' variance
FARTHEST_PX = 1e6  # from the image's corner: the tracker's pixels are whole numbers of 32 bits
LEAST_AHEAD_M = 1e-3  # nearer, and behind, landmarks take no part: else covariances in pixels become singular


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

    sheets: NDArray[np.int64]  # (n,) which of the sheets holds its look in the anchor,
    spots: PoseArray  # (n, 2) and at which pixel
    origins_world: PoseArray  # (n, 3) of the anchor's camera
    rays_world: PoseArray  # (n, 3), with length 1 along the anchor's optical axis
    log_depth: PoseArray  # (n,) along that axis, metres
    variance: PoseArray  # (n,) of the log depth
    noise: PoseArray  # (n, 2, 2) covariance of where it is seen, px^2
    pixels: PoseArray  # (n, 2) where it was seen last
    misses: NDArray[np.int64]  # (n,) looks in a row at which it disagreed or was not found

    def pick(self, index: MaskArray | NDArray[np.int64]) -> "_Rows":
        """Some of the landmarks."""
        these = np.flatnonzero(index) if index.dtype == bool else index
        return _Rows(*(getattr(self, name).take(these, axis=0) for name in self.__slots__))

    def join(self, other: "_Rows") -> "_Rows":
        """Those of both."""
        return _Rows(*(np.concatenate((getattr(self, name), getattr(other, name))) for name in self.__slots__))

    def places_world(self) -> PoseArray:
        """(n, 3)."""
        return self.origins_world + np.exp(self.log_depth)[:, None] * self.rays_world

    def along(self) -> PoseArray:
        """(n, 3) one standard deviation of the depth along the ray."""
        return (np.exp(self.log_depth) * np.sqrt(self.variance))[:, None] * self.rays_world

    def across(self, focal_px: float) -> PoseArray:
        """(n,) variance of the place in any direction, since the anchor's pixel is uncertain."""
        across: PoseArray = (PIXEL_STD / focal_px * np.exp(self.log_depth)) ** 2
        return across

    def fit(
        self, world_from_camera: PoseArray, pixels: PoseArray, intrinsics: Intrinsics, *, rough: bool = False
    ) -> "LandmarkFit | None":
        """:func:`fit_on_landmarks` of all of these, seen at ``pixels`` (n, 2)."""
        return fit_on_landmarks(
            world_from_camera,
            pixels,
            self.noise,
            self.places_world(),
            self.along(),
            self.across(intrinsics.fx_px),
            intrinsics,
            rough=rough,
        )

    def solved(self, world_from_camera: PoseArray, pixels: PoseArray, intrinsics: Intrinsics) -> LandmarkPose | None:
        """The camera near ``world_from_camera`` (4, 4) that sees all of these at ``pixels`` (n, 2)."""
        fit = self.fit(world_from_camera, pixels, intrinsics)
        return None if fit is None else fit.solved(pixels, intrinsics)


class Landmarks:
    """All state: the landmarks, how they looked where they were begun, and the last image."""

    def __init__(self) -> None:
        """None yet."""
        self.reset()

    def reset(self) -> None:
        """Forget all of them."""
        none, numbers = np.zeros(0), np.zeros(0, np.int64)
        pixels, vectors, noise = np.zeros((0, 2)), np.zeros((0, 3)), np.zeros((0, 2, 2))
        self._rows = _Rows(numbers, pixels, vectors, vectors, none, none, noise, pixels, numbers)
        self._sheets = Sheets()
        self._newest: SoftImage | None = None
        self._world_from_last = np.eye(4)  # its camera
        self._found: MaskArray | None = None
        self._places = pixels  # in the image of the last look; of those that were not found, as before
        self._soft: tuple[NDArray[np.uint8], SoftImage] | None = None  # the last image, as it came and softened
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
        newest = self.soft(image_rgb)
        found = self._near_few(newest, static, intrinsics) or self._near_last(newest, static, intrinsics)
        if found is None:
            return None
        return self._solved(*found, intrinsics)

    def _near_few(
        self, newest: SoftImage, static: MaskArray, intrinsics: Intrinsics
    ) -> tuple[PoseArray, PoseArray, MaskArray, MaskArray] | None:
        """Pose (4, 4), and places (n, 2), found (n,) and usable (n,) of the landmarks, looked for where few say.

        Some landmarks are followed from the last image; where the camera is that sees them so, tells where the others
        must be. None if those few do not agree, or too many of the others are not there.
        """
        rows = self._rows
        few = np.arange(0, len(rows.pixels), max(1, len(rows.pixels) // FEW))
        if self._newest is None or len(few) < MIN_LANDMARKS:
            return None
        start = 0.5 * rows.pixels[few]
        seen, near = follow_from(
            self._newest.half, newest.half, start, start, FEW_PX, levels=FAR - 1, steps=STEPS, checked=False
        )
        seen *= 2.0
        near = on_static(seen, near, static)
        roughly = rows.pick(few[near]).fit(self._world_from_last, seen[near], intrinsics, rough=True)
        if roughly is None or roughly.agreeing / np.count_nonzero(near) < MOST_AGREEING:
            return None
        return self._near_places(newest, static, intrinsics, roughly.pose)

    def _near_places(
        self, newest: SoftImage, static: MaskArray, intrinsics: Intrinsics, pose: PoseArray
    ) -> tuple[PoseArray, PoseArray, MaskArray, MaskArray] | None:
        """:meth:`_near_few` where it is known roughly that the camera is at ``pose`` (4, 4)."""
        rows = self._rows
        places_world = np.ascontiguousarray(rows.places_world().T)
        (now, ahead), (before, was_ahead) = (
            seen_from(camera, places_world, intrinsics) for camera in (pose, self._world_from_last)
        )
        ahead &= was_ahead
        # as far from its place as before, as long as it was believed where it was seen
        expected = np.where(rows.misses == 0, rows.pixels.T - before, 0.0)
        expected += now
        places, found = self._follow(newest, np.clip(expected.T, -FARTHEST_PX, FARTHEST_PX))
        found &= ahead
        usable = on_static(places, found, static)
        if usable.sum() < max(MIN_LANDMARKS, MIN_AGREEING * len(usable)):
            return None
        return pose, places, found, usable

    def _near_last(
        self, newest: SoftImage, static: MaskArray, intrinsics: Intrinsics
    ) -> tuple[PoseArray, PoseArray, MaskArray, MaskArray] | None:
        """:meth:`_near_few` with all landmarks followed from the last image: slow, but whatever agrees is enough."""
        rows = self._rows
        assert self._newest is not None  # noqa: S101
        seen, near = follow_from(
            self._newest.whole, newest.whole, rows.pixels, rows.pixels, FIRST_PX, levels=FAR, steps=STEPS, checked=False
        )
        places, found = self._follow(newest, np.where(near[:, None], seen, rows.pixels))
        usable = on_static(places, found, static)
        pose = agreed(places[usable], rows.places_world()[usable], intrinsics)
        if pose is None:
            return None
        usable &= transform(invert(pose), rows.places_world())[:, 2] > LEAST_AHEAD_M
        return pose, places, found, usable

    def _solved(
        self, pose: PoseArray, places: PoseArray, found: MaskArray, usable: MaskArray, intrinsics: Intrinsics
    ) -> LandmarkPose | None:
        """The camera near ``pose`` that sees the usable landmarks where they were found."""
        self._found = found
        self._places = np.where(found[:, None], places, self._rows.pixels)
        return self._rows.pick(usable).solved(pose, places[usable], intrinsics)

    def soft(self, image_rgb: NDArray[np.uint8]) -> SoftImage:
        """An image (h, w, 3) softened: once for an image that is located, learnt from and followed in."""
        if self._soft is None or self._soft[0] is not image_rgb:
            self._soft = (image_rgb, SoftImage.of(image_rgb))
        return self._soft[1]

    def _follow(self, newest: SoftImage, expected: PoseArray) -> tuple[PoseArray, MaskArray]:
        """Places (n, 2) near those expected (n, 2), and which were found (n,), each as its anchor's image shows it."""
        rows, places, found = self._rows, expected.copy(), np.zeros(len(expected), bool)
        for number, sheet in enumerate(self._sheets.images):
            here = np.flatnonzero(rows.sheets == number)
            places[here], found[here] = follow_from(
                sheet, newest.whole, rows.spots[here], expected[here], self._patch_px, levels=NEAR, steps=STEPS
            )
        return places, found

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        rows = self._rows
        rows.origins_world = centre_world + factor * (rows.origins_world - centre_world)
        rows.log_depth = rows.log_depth + np.log(factor)
        last_world = centre_world + factor * (self._world_from_last[:3, 3] - centre_world)
        self._world_from_last = pose_from(self._world_from_last[:3, :3], last_world)

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
        ``depth_variance_factor`` times that of a good network (:class:`pomato_ros.pointmap_scene.trust.PoseTrust`).
        """
        self._log_depth_std = min(LOG_DEPTH_STD * depth_variance_factor**0.5, WORST_LOG_DEPTH_STD)
        self._patch_px = WIDE_PX if self._log_depth_std > WIDE_FROM else PATCH_PX
        if self._found is None:
            self._rows = self._rows.pick(np.zeros(len(self._rows.pixels), bool))
        else:
            self._rows.pixels = self._places
            self._look(self._found, depth_m, static, world_from_camera, intrinsics)
        self._newest, self._world_from_last, self._found = self.soft(image_rgb), world_from_camera, None
        if self._steps % NEW_EVERY == 1 or len(self._rows.pixels) < FEW_LANDMARKS:
            self._begin(depth_m, static, world_from_camera, intrinsics)
        self._steps += 1

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
        places = np.ascontiguousarray(rows.places_world().T)
        along_x, along_y = linearised(world_from_camera, rows.pixels.T, places, intrinsics.matrix())
        slope_x, slope_y, xx, xy, yy = doubt_px(
            along_x, along_y, world_from_camera[:3, :3].T @ rows.along().T, rows.across(intrinsics.fx_px), rows.noise
        )
        miss_x, miss_y, ahead_m = along_x[6], along_y[6], in_camera(world_from_camera, places)[2]
        with np.errstate(divide="ignore", invalid="ignore"):
            squared = (yy * miss_x**2 - 2.0 * xy * miss_x * miss_y + xx * miss_y**2) / (xx * yy - xy * xy)
            agrees = found & ~moving & (squared < GATE**2) & (ahead_m > LEAST_AHEAD_M)
        rows.misses = np.where(agrees, 0, rows.misses + 1)
        std = np.sqrt(rows.variance)
        slope_x, slope_y = slope_x / std, slope_y / std  # by the log depth
        xx, xy, yy = rows.noise[:, 0, 0], rows.noise[:, 0, 1], rows.noise[:, 1, 1]
        scale = REPEATED_LOOKS * (xx * yy - xy * xy)
        pull_x, pull_y = (yy * slope_x - xy * slope_y) / scale, (xx * slope_y - xy * slope_x) / scale
        rays = pull_x * slope_x + pull_y * slope_y
        told = depth_m[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        usable = np.isfinite(told) & (told > 0) & (ahead_m > 0)
        miss = np.log(np.where(usable, told, 1.0) / np.where(usable, ahead_m, 1.0))
        usable &= np.abs(miss) < GATE * np.sqrt(self._log_depth_std**2 + rows.variance)
        network = usable / (self._log_depth_std**2 * REPEATED_LOOKS)
        together = 1.0 / rows.variance + rays + network
        change = (network * miss - pull_x * miss_x - pull_y * miss_y) / together
        rows.log_depth = np.where(agrees, rows.log_depth + change, rows.log_depth)
        rows.variance = np.where(agrees, 1.0 / together, rows.variance)
        self._rows = rows.pick((rows.misses < MISSES) & ~moving)

    def _begin(
        self, depth_m: FloatArray, static: MaskArray, world_from_camera: PoseArray, intrinsics: Intrinsics
    ) -> None:
        """New landmarks at corners of the newest image where there are none."""
        if self._newest is None:
            return
        pixels = new_features(self._newest.whole, self._rows.pixels, MAX_LANDMARKS - len(self._rows.pixels))
        nearest = np.rint(pixels).astype(int)
        depth = depth_m[nearest[:, 1], nearest[:, 0]].astype(np.float64)
        good = np.isfinite(depth) & (depth > 0) & static[nearest[:, 1], nearest[:, 0]]
        pixels, depth = pixels[good], depth[good]
        count = len(pixels)
        sheets, spots = self._sheets.add(self._newest.whole, pixels, self._rows.sheets, self._rows.spots)
        fresh = _Rows(
            sheets=sheets,
            spots=spots,
            origins_world=np.tile(world_from_camera[:3, 3], (count, 1)),
            rays_world=unproject(pixels, np.ones(count), intrinsics.matrix()) @ world_from_camera[:3, :3].T,
            log_depth=np.log(depth),
            variance=np.full(count, self._log_depth_std**2),
            noise=place_noise(self._newest.whole, depth_m, self._log_depth_std, pixels),
            pixels=pixels,
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
    x, y = np.rint(pixels).astype(int).T
    height, width = grey.shape
    near = np.arange(-(PATCH_PX // 2) - 1, PATCH_PX // 2 + 2)
    rows, columns = (last - np.abs(last - np.abs(at[:, None] + near)) for at, last in ((y, height - 1), (x, width - 1)))
    patches = grey[rows[:, :, None], columns[:, None, :]].astype(np.float64)  # reflected at the image's edges
    across, down = patches[:, :, 2:] - patches[:, :, :-2], patches[:, 2:] - patches[:, :-2]
    along_x = (3.0 * (across[:, :-2] + across[:, 2:]) + 10.0 * across[:, 1:-1]) / 32.0  # Scharr's
    along_y = (3.0 * (down[:, :, :-2] + down[:, :, 2:]) + 10.0 * down[:, :, 1:-1]) / 32.0
    xx, xy, yy = ((one * other).sum((1, 2)) for one, other in ((along_x,) * 2, (along_x, along_y), (along_y,) * 2))
    values, vectors = np.linalg.eigh(np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -2))
    variance = np.clip(GREY_STD**2 / np.maximum(values, 1e-9), PIXEL_STD**2, POOR_STD**2)
    noise = (vectors * variance[:, None, :]) @ np.swapaxes(vectors, -1, -2)
    return noise + JUMP_STD**2 * jumps(depth_m, log_depth_std, x, y)[:, None, None] * np.eye(2)


def jumps(depth_m: FloatArray, log_depth_std: float, x: NDArray[np.int64], y: NDArray[np.int64]) -> MaskArray:
    """(n,) whether a depth map (h, w) jumps near pixels x, y (n,), by more than its errors explain, or holds none."""
    return jumps_at(depth_m, y, x, JUMP_PX, float(np.exp(JUMP_STDS * log_depth_std)))


def seen_from(world_from_camera: PoseArray, places: PoseArray, intrinsics: Intrinsics) -> tuple[PoseArray, MaskArray]:
    """(2, n) pixels where a camera sees places (3, n) of the world, and which are ahead of it (n,)."""
    x, y, z = in_camera(world_from_camera, places)
    ahead = z > LEAST_AHEAD_M
    inverse = 1.0 / np.where(ahead, z, 1.0)
    return np.stack(
        (intrinsics.fx_px * x * inverse + intrinsics.cx_px, intrinsics.fy_px * y * inverse + intrinsics.cy_px)
    ), ahead


def on_static(places: PoseArray, found: MaskArray, static: MaskArray) -> MaskArray:
    """(n,) those found (n,) whose place (n, 2), within the image, is a static pixel (h, w)."""
    usable = found.copy()
    x, y = np.rint(places[found]).astype(int).T
    usable[found] = static[y, x]
    return usable


def agreed(pixels: PoseArray, places_world: PoseArray, intrinsics: Intrinsics) -> PoseArray | None:
    """Roughly the camera's pose (4, 4) that most of (n, 3) places seen at (n, 2) pixels agree on; None without."""
    if len(pixels) < MIN_LANDMARKS:
        return None
    solution = solve_pose(
        pixels,
        places_world,
        intrinsics.matrix(),
        threshold_px=RANSAC_SHARE * max(intrinsics.width_px, intrinsics.height_px),
        iterations=RANSAC_DRAWS,
        seed=0,
    )
    if isinstance(solution, PnpFailure):
        return None
    if solution.inliers.sum() < MIN_LANDMARKS or solution.inlier_ratio < MIN_AGREEING:
        return None
    return solution.reference_from_camera


def doubt_px(
    along_x: PoseArray, along_y: PoseArray, along_camera: PoseArray, across: PoseArray, noise: PoseArray
) -> tuple[PoseArray, PoseArray, PoseArray, PoseArray, PoseArray]:
    """How uncertain it is where landmarks are seen.

    Args:
        along_x: (8, n) :func:`pnp.linearised`, the first three by the camera's position along its own axes.
        along_y: (8, n).
        along_camera: (3, n) one standard deviation of depth, in the camera's axes.
        across: (n,) variance of the places in all directions.
        noise: (n, 2, 2) covariance of the pixels.

    Returns:
        What one standard deviation of depth is in the image, x and y (n,), and the covariance there, xx, xy, yy (n,).
    """
    by_x, by_y = -along_x[:3], -along_y[:3]
    slope_x, slope_y = (by_x * along_camera).sum(axis=0), (by_y * along_camera).sum(axis=0)
    xx = slope_x * slope_x + across * (by_x * by_x).sum(axis=0) + noise[:, 0, 0]
    xy = slope_x * slope_y + across * (by_x * by_y).sum(axis=0) + noise[:, 0, 1]
    yy = slope_y * slope_y + across * (by_y * by_y).sum(axis=0) + noise[:, 1, 1]
    return slope_x, slope_y, xx, xy, yy


@dataclass(frozen=True, slots=True)
class LandmarkFit:
    """Where :func:`fit_on_landmarks` ended: n landmarks, whitened in the axes x, y of the image."""

    pose: PoseArray  # (4, 4)
    normal: PoseArray  # (6, 6) by position and rotation along the camera's own axes
    weighted: PoseArray  # (6, 2, n) what the landmarks' whitened errors pull with
    slopes: PoseArray  # (2, n) of one standard deviation of depth, whitened
    squared: PoseArray  # (n,) of the whitened errors
    errors_px: PoseArray  # (2, n)

    @property
    def agree(self) -> MaskArray:
        """(n,) which landmarks do."""
        return self.squared < 2 * GATE**2

    @property
    def agreeing(self) -> int:
        """How many do."""
        return int(np.count_nonzero(self.agree))

    def solved(self, pixels: PoseArray, intrinsics: Intrinsics) -> LandmarkPose | None:
        """The pose with its covariance, of landmarks that were seen at ``pixels`` (n, 2); None if few agree."""
        agree, agreeing = self.agree, self.agreeing
        if agreeing < MIN_LANDMARKS:
            return None
        inverse = dposv(self.normal, np.eye(6))[1]
        pulls = (self.weighted * self.slopes).sum(axis=1)
        turned = np.zeros((6, 6))
        turned[:3, :3] = turned[3:, 3:] = self.pose[:3, :3]
        covariance = inverse + inverse @ shared_pulls(pulls.T, pixels, intrinsics) @ inverse
        covariance = turned @ covariance @ turned.T
        excess = max(1.0, 0.5 * float(self.squared @ agree) / agreeing)  # the mean of two squared normals is 2
        residual_px = float((self.errors_px * self.errors_px).sum(axis=0) @ agree / agreeing) ** 0.5
        return LandmarkPose(self.pose, covariance * excess, agreeing / len(pixels), agreeing, residual_px)


def fit_on_landmarks(
    world_from_camera: PoseArray,
    pixels: PoseArray,
    noise: PoseArray,
    places_world: PoseArray,
    along: PoseArray,
    across: PoseArray,
    intrinsics: Intrinsics,
    *,
    rough: bool = False,
) -> LandmarkFit | None:
    """Weighted least squares from a nearby pose, robust by Cauchy's weights; None if it comes to nothing.

    Derivatives and covariances in pixels are those of the round's start. What is left to find in a round is a few
    numbers, for which the whitened rows are weighed anew.

    Args:
        world_from_camera: (4, 4) where to start.
        pixels: (n, 2).
        noise: (n, 2, 2) covariance of the pixels.
        places_world: (n, 3).
        along: (n, 3) one standard deviation of the place along its anchor's ray.
        across: (n,) variance of the place in all directions.
        intrinsics: of the camera.
        rough: it only tells where to look for others.
    """
    pose, matrix, count = world_from_camera, intrinsics.matrix(), len(pixels)
    if count < MIN_LANDMARKS:
        return None
    settled, straight = (ROUGHLY_SETTLED, ROUGHLY_STRAIGHT) if rough else (SETTLED, STRAIGHT)
    seen, places, depth_steps = (np.ascontiguousarray(part.T) for part in (pixels, places_world, along))
    rows = np.empty((8, 2, count))
    for _ in range(SOLVER_ROUNDS):
        along_x, along_y = linearised(pose, seen, places, matrix)
        slope_x, slope_y, xx, xy, yy = doubt_px(along_x, along_y, pose[:3, :3].T @ depth_steps, across, noise)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale_x, tilt = 1.0 / np.sqrt(xx), xy / xx
            scale_y = 1.0 / np.sqrt(yy - tilt * xy)
        np.multiply(along_x, scale_x, out=rows[:, 0])
        np.multiply(along_y - tilt * along_x, scale_y, out=rows[:, 1])
        if not np.isfinite(rows.sum()):
            return None
        flat, step, misses = rows.reshape(8, -1), np.zeros(6), rows[6]
        for number in range(SOLVER_STEPS):
            squared = misses * misses
            squared = squared[0] + squared[1]
            gate = GATE if number else max(GATE, float(np.partition(squared, count // 2)[count // 2]))  # from afar
            weighted = rows[:6] * (gate / (gate + squared))
            products = weighted.reshape(6, -1) @ flat.T
            normal, before = products[:, :6], step
            _, step, failed = dposv(normal, -products[:, 6])
            if failed:
                return None
            misses = rows[6] + (step @ flat[:6]).reshape(2, -1)
            if gate == GATE and (step - before) @ normal @ (step - before) < settled**2:
                break
        pose = pose_from(pose[:3, :3] @ rotation_exp(step[3:]), pose[:3, 3] + pose[:3, :3] @ step[:3])
        if step @ normal @ step < straight**2:
            break
    if not np.isfinite(pose).all():
        return None
    squared = misses * misses
    errors_px = np.stack((along_x[6] + step @ along_x[:6], along_y[6] + step @ along_y[:6]))
    slopes = np.stack((slope_x * scale_x, (slope_y - tilt * slope_x) * scale_y))
    return LandmarkFit(pose, normal, weighted, slopes, squared[0] + squared[1], errors_px)


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
    x, y = np.clip((pixels.T + 0.5) / size_px, 0.0, CELLS - 1.0).astype(int)
    cells = x + CELLS * y == np.arange(CELLS * CELLS)[:, None]
    sums = cells.astype(np.float64) @ pulls
    return SHARED_DEPTH * (sums.T @ sums - pulls.T @ pulls)
