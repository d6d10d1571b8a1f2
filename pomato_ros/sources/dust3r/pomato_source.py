"""POMATO as a source: a window's pointmaps become depth, correspondence, pose prior and motion evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from pomato_ros.config import PomatoConfig, WindowOptions
from pomato_ros.errors import ConfigError
from pomato_ros.geometry.camera import focal_by_irls
from pomato_ros.geometry.pnp import PnpFailure, PnpSolution
from pomato_ros.sources.base import Capabilities, PredictionRequest
from pomato_ros.sources.dust3r.pair_reading import (
    GATE,
    PairNoise,
    PointmapPair,
    confidence_factor,
    correlated_covariance,
    fused_depth,
    locate_newest,
    log_ratio,
    measure_noise,
    median_ratio,
    motion_evidence,
    newest_points_of_reference,
    project_points,
    sample_depth,
    single_depth,
    spread,
)
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    Frame,
    Intrinsics,
    Observation,
    PosePrior,
    PreparedFrame,
    Window,
)

FOCAL_MEMORY = 30  # estimates whose median is the focal length of an uncalibrated camera
NOISE_MEMORY = 0.8  # of the running noise, per frame
FIRST_NOISE = PairNoise(log_depth=0.05, pixel=1.0)  # before any pair was seen
AT_REST_LOG_ODDS = 0.0  # below: takes part in the pose
MOST_LOG_SIGMA = 0.3  # of ln z, beyond which two predictions of one frame are unrelated
UNCONFIRMED_FACTOR = 3.0  # on sigma of a depth that the pair contradicts
LEAST_INLIER_RATIO = 0.15  # of the pose prior, below which the prediction is garbage


class WindowPredictor(Protocol):
    """What is needed of a network; tests put truth in its place."""

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Both pair orders of a window against its key frame, at least what is ``wanted``; None: all."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model: ``image_size_px``, the size its weights were trained at, and ``temporal_length``."""


class RunningNoise:
    """Standard deviations of a network's maps, averaged over frames."""

    def __init__(self) -> None:
        """Broad, before any pair was seen."""
        self.pair = FIRST_NOISE  # of one map, without what all maps of a frame share
        self.between_frames = float(np.sqrt(2.0) * FIRST_NOISE.log_depth)  # of ln z in r, known and from X_m
        self._count = 0

    def update(self, pair: PairNoise, between_frames: float) -> None:
        """Add what one pair showed."""
        self._count += 1
        share = max(1.0 / self._count, 1.0 - NOISE_MEMORY)
        self.pair = PairNoise(
            log_depth=(1 - share) * self.pair.log_depth + share * pair.log_depth,
            pixel=(1 - share) * self.pair.pixel + share * pair.pixel,
        )
        self.between_frames = (1 - share) * self.between_frames + share * between_frames

    @property
    def log_depth(self) -> float:
        """Of ln z of one map, with what all maps of a frame share.

        With v of one map and f of the mean of two, v + f = t^2 between frames and v - f = k^2 / 2 between the two.
        """
        return float(np.sqrt(self.fused_log_depth**2 + 0.5 * self.pair.log_depth**2))

    @property
    def fused_log_depth(self) -> float:
        """Of ln z of the mean of two maps."""
        half = 0.5 * self.pair.log_depth**2
        return float(np.sqrt(max(0.5 * (self.between_frames**2 - half), half)))


@dataclass(frozen=True, slots=True)
class KnownDepth:
    """Depth of a frame of the window, in the stream's unit."""

    depth: DepthMap
    confirmed: bool  # by a second prediction


@dataclass(frozen=True, slots=True)
class PairChoice:
    """Which pair of a window is read."""

    reference: int  # frame r
    slot: int  # frame of the prediction's row: n, or r where n is the key
    rolling: bool  # n is the key
    adopts_reference: bool  # r's depth is not known, or was not confirmed: it is read again
    placed: int | None  # another frame of known depth, which then gives the unit

    def wanted(self, stride: int) -> Wanted:
        """Which maps are read."""
        slots = tuple(sorted({self.slot} | ({self.placed} if self.placed is not None else set())))
        own, in_reference = (1,), (1, 2, 3) if self.adopts_reference else (2, 3)
        if self.rolling:
            return Wanted(slots, from_key_heads=in_reference, to_key_heads=own, stride=stride)
        return Wanted(slots, from_key_heads=own, to_key_heads=in_reference, stride=stride)


def choose_pair(window: Window, known: Mapping[int, KnownDepth]) -> PairChoice:
    """The newest frame and the key or, where it is the key itself, and the oldest frame of confirmed depth.

    ``known``: by stamp.
    """
    newest = len(window.frames) - 1
    depths = [known.get(frame.stamp_ns) for frame in window.frames[:-1]]
    placed = [slot for slot, depth in enumerate(depths) if depth is not None]
    confirmed = [slot for slot in placed if known[window.frames[slot].stamp_ns].confirmed]
    if not newest:
        return PairChoice(0, 0, rolling=False, adopts_reference=False, placed=None)
    if window.key == newest:
        reference = confirmed[0] if confirmed else 0
        return PairChoice(reference, reference, rolling=True, adopts_reference=not confirmed, placed=None)
    adopts = window.key not in confirmed
    placed_slot = placed[-1] if adopts and placed else None
    return PairChoice(window.key, newest, rolling=False, adopts_reference=adopts, placed=placed_slot)


def read_pair(prediction: WindowPrediction, slot: int, *, rolling: bool) -> PointmapPair:
    """The maps of the newest frame's pixels in the pair of frame ``slot`` with the key."""
    row = prediction.row_of(slot)
    own, in_reference = prediction.from_key, prediction.to_key
    if rolling:
        own, in_reference = in_reference, own
    maps = (
        own.points_1,
        own.conf_1,
        in_reference.points_2,
        in_reference.conf_2,
        in_reference.points_match,
        in_reference.conf_match,
    )
    return PointmapPair(*(part[row].numpy() for part in maps))


def correspondence(
    pair: PointmapPair, camera: Intrinsics, reference: DepthMap, gap: int, noise: RunningNoise
) -> Correspondence:
    """X_m^{n,r} projected into r; visible where r's depth confirms it within :data:`GATE` sigma."""
    pixels = project_points(pair.points_earlier, camera)
    factor = confidence_factor(pair.conf_earlier)
    residual = log_ratio(sample_depth(reference, pixels), pair.points_earlier[..., 2])
    return Correspondence(
        gap=gap,
        pixels=pixels,
        sigma_px=(noise.pair.pixel * factor).astype(np.float32),
        visible=np.abs(residual) < GATE * noise.between_frames * factor,
        points_earlier=pair.points_earlier,
    )


def check_window(window_size: int, temporal_length: int) -> None:
    """Refuse windows longer than the motion modules of the weights reach; 0 is a network without them.

    Raises:
        ConfigError: the window is too long.
    """
    if temporal_length and window_size > temporal_length:
        raise ConfigError(
            f"window_size must be at most {temporal_length} with these weights, got {window_size}; choose a shorter "
            "window or weights with a longer temporal_length"
        )


def no_correspondence(_gap: int) -> Correspondence | None:
    """None: nothing is known of earlier frames."""
    return None


class PomatoSource:
    """A :class:`pomato_ros.sources.base.Source`. Its unit is that of the first window's pointmaps.

    Pairs have units of their own; each is brought to the stream's by the depth of the reference frame, which X_m^{n,r}
    predicts again: scale = median of z_r(project(X_m)) / z(X_m), right for moving points too.
    """

    def __init__(self, config: PomatoConfig, predictor: WindowPredictor) -> None:
        """Use a network that is loaded already.

        Raises:
            ConfigError: the window is longer than the weights' motion modules reach.
        """
        self._predictor = predictor
        self._facts = predictor.describe()
        self._metric = bool(self._facts.get("metric", False))
        check_window(config.window.window_size, self._facts.get("temporal_length", 0))
        self._options: WindowOptions = config.window
        self._known: dict[int, KnownDepth] = {}  # by stamp: depth of the window's frames, in the stream's unit
        self._unit = 1.0  # of the stream, in units of the last pair
        self._focals_px: list[float] = []
        self._noise = RunningNoise()

    @classmethod
    def from_config(cls, config: PomatoConfig) -> "PomatoSource":
        """Load the weights that ``config`` names.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: device or precision is not there, or the window is too long for the weights.
        """
        return cls(config, Predictor.from_options(config.model))

    @property
    def capabilities(self) -> Capabilities:
        """Everything; metres where the weights were trained to give them."""
        return Capabilities(metric=self._metric, dense_correspondence=True, pose_prior=True, motion_evidence=True)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """As :func:`pomato_ros.sources.dust3r.preprocess.prepare_frame`, at the size of the options or the weights."""
        return prepare_frame(frame, self._image_size_px)

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """Observe the newest frame by its pair with the key or, rolling, by the key's pair with the oldest known frame.

        Raises:
            OutOfMemory: the device has no room for the window.
        """
        newest = window.frames[-1]
        choice = choose_pair(window, self._known)
        prediction = self._predictor.predict(window, choice.wanted(request.stride))
        pair = read_pair(prediction, choice.slot, rolling=choice.rolling)
        camera = newest.intrinsics or self._estimate_camera(pair)
        reference = self._reference_depth(window, prediction, choice)
        gap = len(window.frames) - 1 - choice.reference
        observation = self._observe_pair(pair, camera, reference, gap) if gap and reference else None
        confirmed = observation is not None or not self._known
        if observation is None:
            factor = UNCONFIRMED_FACTOR if gap else 1.0
            points = pair.points_newest * np.float32(self._unit)
            observation = Observation(
                single_depth(points, pair.conf_newest, factor * self._noise.log_depth), no_correspondence
            )
        self._remember(window, observation.depth, confirmed=confirmed)
        depth = replace(observation.depth, metric=self._metric) if observation.depth else None
        return replace(observation, depth=depth, intrinsics=None if newest.intrinsics else camera)

    def _reference_depth(self, window: Window, prediction: WindowPrediction, choice: PairChoice) -> DepthMap | None:
        """Depth of frame r: the one it had when it was the newest or, if that was not confirmed, X^{r,r} now.

        The unit of X^{r,r} is found by the newest frame of known depth in the window; else it is the last pair's.
        """
        if not choice.adopts_reference:
            known = self._known.get(window.frames[choice.reference].stamp_ns)
            return known.depth if known else None
        in_reference = prediction.from_key if choice.rolling else prediction.to_key
        if choice.placed is not None:
            placed = self._known[window.frames[choice.placed].stamp_ns].depth
            with np.errstate(divide="ignore"):
                placed_z = np.where(placed.valid, 1.0 / placed.inverse_depth, np.nan).astype(np.float32)
            own_z = prediction.from_key.points_1[prediction.row_of(choice.placed)].numpy()[..., 2]
            self._unit = median_ratio(placed_z, own_z) or self._unit
        row = prediction.row_of(choice.slot)
        points = in_reference.points_1[row].numpy() * np.float32(self._unit)
        depth = single_depth(points, in_reference.conf_1[row].numpy(), self._noise.log_depth)
        self._known[window.frames[choice.reference].stamp_ns] = KnownDepth(depth, confirmed=False)
        return depth

    def _observe_pair(
        self, pair: PointmapPair, camera: Intrinsics, reference: DepthMap, gap: int
    ) -> Observation | None:
        """All records of a pair whose reference frame has the depth ``reference``; None where they contradict it."""
        few = pair.thinned()
        there = sample_depth(reference, project_points(few.points_earlier, camera))
        unit = median_ratio(there, few.points_earlier[..., 2])
        if unit is None:
            return None
        few = few.scaled(unit, 1.0)
        at_rest = motion_evidence(few, self._noise.pair, camera).log_odds < AT_REST_LOG_ODDS
        solution = locate_newest(few, at_rest, camera)
        if isinstance(solution, PnpFailure) or solution.inlier_ratio < LEAST_INLIER_RATIO:
            return None
        again = newest_points_of_reference(few, solution.reference_from_camera)
        newest_unit = median_ratio(again[..., 2], few.points_newest[..., 2]) or unit
        noise = measure_noise(few.scaled(1.0, newest_unit), again, camera)
        if noise.log_depth > MOST_LOG_SIGMA:
            return None
        self._unit = newest_unit
        self._noise.update(noise, spread(log_ratio(there, few.points_earlier[..., 2])))
        return self._records(pair.scaled(unit, newest_unit), camera, reference, gap, solution)

    def _records(
        self, pair: PointmapPair, camera: Intrinsics, reference: DepthMap, gap: int, solution: PnpSolution
    ) -> Observation:
        again = newest_points_of_reference(pair, solution.reference_from_camera)
        depth = fused_depth(pair, again, self._noise.pair, self._noise.fused_log_depth)
        evidence = motion_evidence(pair, self._noise.pair, camera)
        prior = PosePrior(gap, solution.reference_from_camera, correlated_covariance(solution))
        match = correspondence(pair, camera, reference, gap, self._noise)
        facts = {
            "log_depth_sigma": self._noise.fused_log_depth,
            "match_sigma_px": self._noise.pair.pixel,
            "pose_inlier_ratio": solution.inlier_ratio,
        }
        return Observation(depth, lambda asked: match if asked == gap else None, (prior,), evidence, facts=facts)

    def _estimate_camera(self, pair: PointmapPair) -> Intrinsics:
        """Median over recent frames of each pointmap's own focal length; principal point in the middle."""
        height, width = pair.conf_newest.shape
        centre = ((width - 1) / 2, (height - 1) / 2)
        usable = (pair.points_newest[..., 2] > 0) & (pair.conf_newest >= np.median(pair.conf_newest))
        if usable.any():
            focal_px = focal_by_irls(pair.points_newest, centre, weights=usable)
            if np.isfinite(focal_px) and focal_px > 0:
                self._focals_px = [*self._focals_px[1 - FOCAL_MEMORY :], float(focal_px)]
        focal_px = float(np.median(self._focals_px)) if self._focals_px else float(max(height, width))
        return Intrinsics(focal_px, focal_px, *centre, width, height)

    def _remember(self, window: Window, depth: DepthMap | None, *, confirmed: bool) -> None:
        """Keep the depth of the window's frames."""
        held = {frame.stamp_ns for frame in window.frames}
        self._known = {stamp_ns: known for stamp_ns, known in self._known.items() if stamp_ns in held}
        if depth is not None:
            self._known[window.frames[-1].stamp_ns] = KnownDepth(depth, confirmed)

    @property
    def _image_size_px(self) -> int:
        """Long side of the network's input."""
        return self._options.image_size or int(self._facts["image_size_px"])

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Evaluate blank windows until one begins anew, so that the first real steps are not slower than others."""
        if not isinstance(self._predictor, Predictor) or self._predictor.replays is None:
            return
        blank = self.prepare(Frame(0, np.zeros((size_wh[1], size_wh[0], 3), np.uint8)))
        for count in range(1, self._options.window_size + 1):
            frames = tuple(replace(blank, stamp_ns=stamp_ns) for stamp_ns in range(count))
            key = 0 if self._options.mode == "anchored" else count - 1
            for _ in range(2):  # a piece is recorded when it comes again
                self._predictor.predict(Window(frames, key), Wanted((count - 1 if key == 0 else 0,)))
        self._predictor.reset()

    def reset(self) -> None:
        """Drop frames, unit and noise."""
        self._known, self._unit, self._focals_px, self._noise = {}, 1.0, [], RunningNoise()
        if isinstance(self._predictor, Predictor):
            self._predictor.reset()

    def describe(self) -> dict[str, Any]:
        """Facts about the network."""
        replays = self._predictor.replays if isinstance(self._predictor, Predictor) else None
        counted = {} if replays is None else {"warmup_count": replays.warmup_count}
        return {"backend": "pomato", **self._facts, "image_size_px": self._image_size_px, **counted}
