"""Which pixels move: one test of flow against rest, at several gaps, with memory."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MotionTuning, TwoViewTuning
from pomato_ros.geometry.camera import resize_homography
from pomato_ros.scene.flow import grid, structure
from pomato_ros.scene.rest import Matches, geometry_of, RelativePose, Rest, jacobian, pose_variance, refined, rest_of
from pomato_ros.scene.two_view import pair_geometry
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    FloatArray,
    Intrinsics,
    MaskArray,
    MotionEvidence,
    PoseArray,
)


@dataclass(frozen=True, slots=True, eq=False)
class MotionState:
    """What is believed to move in the newest frame."""

    log_odds: FloatArray  # (h, w) ln(p / (1 - p)) that a pixel moves
    mask: MaskArray  # (h, w)
    facts: dict[str, float] = field(default_factory=dict)  # residual statistics, by name


class MotionSegmenter:
    """Log-odds of motion, carried from frame to frame."""

    def __init__(self, tuning: MotionTuning | None = None, two_view: TwoViewTuning | None = None) -> None:
        self.tuning = tuning or MotionTuning()
        self.two_view = two_view or TwoViewTuning()
        self.reset()

    def reset(self) -> None:
        self._images: deque[NDArray[np.uint8]] = deque(maxlen=max(self.tuning.gaps) + 1)
        self._log_odds: FloatArray | None = None
        self._depths = deque(maxlen=max(self.tuning.gaps) + 1)
        self._step = 0
        self.debug = {}

    def update(
        self,
        gray: NDArray[np.uint8],
        intrinsics: Intrinsics,
        correspondence: Callable[[int], Correspondence | None],
        depth: DepthMap | None = None,
        pose: Callable[[int], RelativePose | None] | None = None,
        evidence: MotionEvidence | None = None,
        valid: MaskArray | None = None,
    ) -> MotionState:
        t = self.tuning
        self._images.appendleft(gray)
        self._tex = None
        height, width = gray.shape
        factor = max(1.0, max(height, width) / t.work_side_px)
        wh = round(width / factor), round(height / factor)
        K = resize_homography(wh[0] / width, wh[1] / height) @ intrinsics.matrix()
        total = np.zeros(wh[::-1], np.float32)
        self._depths.appendleft(small_depth(depth, wh, t))
        tex = structure(cv2.resize(gray, wh, interpolation=cv2.INTER_AREA))
        self._sure = np.clip(np.sqrt(tex) / t.texture_levels, 0, 1)
        gaps = [g for g in t.gaps if g < len(self._images)]
        if len(gaps) > t.gaps_per_step:
            gaps = [gaps[(self._step * t.gaps_per_step + i) % len(gaps)] for i in range(t.gaps_per_step)]
        self._step += 1
        for gap in gaps:
            c = correspondence(gap)
            if c is None:
                continue
            total = total + self._evidence(gap, c, depth, pose(gap) if pose else None, K, wh)
        step = correspondence(1) if len(self._images) > 1 else None
        if self._log_odds is not None and step is not None:
            total = total + self._carried(step, wh)
        self._log_odds = np.clip(total, -t.most_log_odds, t.most_log_odds)
        sharp = self._sharp(self._filled(self._log_odds, cv2.resize(gray, wh, interpolation=cv2.INTER_AREA)), gray)
        mask = regions(sharp, t)
        return MotionState(sharp, mask)

    def _filled(self, log_odds, gray) -> FloatArray:
        """Pixels of no evidence take the mean of their segment, bounded by edges of image and depth."""
        t = self.tuning
        k = np.ones((3, 3), np.uint8)
        edge = cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, k) > t.segment_levels
        d = self._depths[0]
        rho = np.where(d.known, d.rho, 0).astype(np.float32)
        edge |= (cv2.morphologyEx(rho, cv2.MORPH_GRADIENT, k) > t.segment_depth * rho) & d.known
        count, labels = cv2.connectedComponents((~edge).astype(np.uint8), connectivity=4)
        flat = labels.ravel()
        sure = np.minimum(np.abs(log_odds), 1.0)
        weight = np.bincount(flat, sure.ravel(), count)
        mean = np.bincount(flat, (sure * log_odds).ravel(), count) / np.maximum(weight, 1e-6)
        size = np.bincount(flat, minlength=count)
        mean[(weight < t.segment_share * size) | (size < 12)] = 0.0
        mean[0] = 0.0
        m = mean[labels].astype(np.float32)
        return np.where(m != 0, sure * log_odds + (1 - sure) * m, log_odds).astype(np.float32)

    def _carried(self, step: Correspondence, wh) -> FloatArray:
        t = self.tuning
        pixels, visible, _ = shrunk(step, wh)
        carried = cv2.remap(
            self._log_odds, pixels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        keep = np.where(visible > 0.5, np.float32(t.retention), np.float32(t.retention_hidden))
        return carried * keep

    def _evidence(self, gap, c, depth, given, K, wh) -> FloatArray:
        t = self.tuning
        pixels, visible, sigma = shrunk(c, wh)
        height, width = wh[1], wh[0]
        xy = grid(height, width)
        usable = visible > 0.5
        rho, weight = self._depths[0].rho, self._depths[0].weight
        variance = sigma * sigma + np.float32(t.least_sigma_px**2)
        m = Matches(
            *(
                np.ascontiguousarray(a).ravel()
                for a in (xy[..., 0], xy[..., 1], pixels[..., 0], pixels[..., 1], variance, rho, weight)
            )
        )
        some = np.zeros(usable.shape, bool)
        s = t.fit_stride_px
        some[s // 2 :: s, s // 2 :: s] = True
        some = (some & usable).ravel()
        few = Matches(*(getattr(m, f)[some] for f in Matches.__slots__))
        if given is not None:
            if len(few.x) < 32:
                return np.zeros(wh[::-1], np.float32)
            pose = refined(few, given, K, 4, self.two_view.inlier_gate, self.two_view.correlated)
        else:
            found = pair_geometry(few, K, self.two_view)
            if found is None or found[0] is None:
                return np.zeros(wh[::-1], np.float32)
            geom, pose = found[:2]
            self.shares = found[2:]
        if given is not None:
            geom = geometry_of(pose.earlier_from_newest, K)
        rest = rest_of(m, geom)
        extra = np.float32(0)
        if pose is not None:
            rows = jacobian(rest, m, pose.earlier_from_newest, K)
            extra = pose_variance(*rows, pose.covariance)
        square = rest.square * m.variance / (m.variance + extra)
        lower = float(np.quantile(square[usable.ravel()], 0.25)) if usable.any() else 1.0
        factor = max(1.0, lower / 0.3)  # of the variance
        square = square / factor
        var = (m.variance + extra) * factor
        moving = var + t.motion_px**2
        llr = 0.5 * square * (1 - var / moving) - 0.5 * np.log(moving / var)
        llr = np.clip(llr, -t.most_rest, t.most_motion).reshape(wh[::-1])
        rest_xy = np.stack((rest.x, rest.y), -1).reshape(*wh[::-1], 2)
        gate = self._gate(gap, pixels, rest_xy, wh)
        llr = np.where(llr > 0, llr * gate, llr * self._sure)
        z = ph = np.zeros(wh[::-1], np.float32)
        if len(self._depths) > gap and given is not None and self._depths[gap].known.any():
            z, hidden, px, py, ok = self._depth_evidence(gap, geom, wh)
            usable = usable & ~hidden
            ph = self._photo_evidence(gap, px, py, ok & ~hidden & ~usable)
        out = np.where(usable, llr, np.float32(0)).astype(np.float32)
        self.debug[gap] = dict(
            square=square.reshape(wh[::-1]),
            gate=gate,
            usable=usable,
            llr=out,
            factor=factor,
            e=geom.epipole,
            shares=getattr(self, "shares", (0, 0)),
        )
        out = out + z + ph
        self.debug[gap]["llr"] = out
        return out

    def _depth_evidence(self, gap, geom, wh) -> FloatArray:
        """Free space: what is now where an earlier frame saw something farther has moved."""
        t = self.tuning
        now, then = self._depths[0], self._depths[gap]
        xy = grid(wh[1], wh[0])
        h, e = geom.homography.astype(np.float32), geom.epipole.astype(np.float32)
        x, y = xy[..., 0], xy[..., 1]
        z = h[2, 0] * x + h[2, 1] * y + h[2, 2] + now.rho * e[2]
        px = (h[0, 0] * x + h[0, 1] * y + h[0, 2] + now.rho * e[0]) / z
        py = (h[1, 0] * x + h[1, 1] * y + h[1, 2] + now.rho * e[1]) / z
        r = now.rho / z
        far = cv2.remap(then.nearest, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1e3)
        same = cv2.remap(then.rho, px, py, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=1e3)
        sig2 = now.sigma**2 + cv2.remap(then.sigma, px, py, cv2.INTER_NEAREST) ** 2 + (t.depth_floor * r) ** 2
        d = (r - far) / np.sqrt(sig2)
        up = np.clip((d - t.depth_gate), 0, t.most_motion)
        down = np.where(np.abs(r - same) < 2 * np.sqrt(sig2), -np.float32(t.rest_depth), 0)
        ok = now.known & (z > 0.02) & (now.spread < t.spread_gate * now.rho)
        background = np.where(now.known, now.rho, now.background)
        zb = h[2, 0] * x + h[2, 1] * y + h[2, 2] + background * e[2]
        bx = (h[0, 0] * x + h[0, 1] * y + h[0, 2] + background * e[0]) / zb
        by = (h[1, 0] * x + h[1, 1] * y + h[1, 2] + background * e[1]) / zb
        cover = cv2.remap(then.cover, bx, by, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        hidden = cover > (1 + t.hidden) * background / zb
        inside = (px >= 0) & (py >= 0) & (px <= wh[0] - 1) & (py <= wh[1] - 1)
        return np.where(ok, np.where(up > 0, up, down), 0).astype(np.float32), hidden, px, py, ok & inside

    def _photo_evidence(self, gap, px, py, ok) -> FloatArray:
        t = self.tuning
        wh = ok.shape[::-1]
        now = cv2.resize(self._images[0], wh, interpolation=cv2.INTER_AREA).astype(np.float32)
        then = cv2.resize(self._images[gap], wh, interpolation=cv2.INTER_AREA).astype(np.float32)
        then = cv2.remap(then, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        diff = now - then
        diff = cv2.blur(np.abs(diff - np.float32(np.median(diff[ok])) if ok.any() else diff), (3, 3))
        slope = cv2.morphologyEx(now, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        excess = (diff - 0.5 * slope) / np.float32(t.photo_levels) - 1
        return np.where(ok, np.clip(excess, 0, t.most_photo), 0).astype(np.float32)

    def _gate(self, gap, pixels, rest_xy, wh) -> FloatArray:
        now = cv2.resize(self._images[0], wh, interpolation=cv2.INTER_AREA)
        then = cv2.resize(self._images[gap], wh, interpolation=cv2.INTER_AREA)
        match = cv2.absdiff(now, cv2.remap(then, pixels, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        rest = cv2.absdiff(
            now, cv2.remap(then, rest_xy.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
        d = cv2.blur(rest.astype(np.float32) - match.astype(np.float32), (3, 3))
        return np.clip(d / np.float32(self.tuning.gate_levels), 0, 1)

    def _sharp(self, log_odds, gray) -> FloatArray:
        t = self.tuning
        r = max(1, round(t.edge_radius_px * gray.shape[1] / log_odds.shape[1]))
        return guided(cv2.resize(log_odds, gray.shape[::-1], interpolation=cv2.INTER_LINEAR), gray, r, t.edge_levels)


@dataclass
class Small:
    rho: FloatArray
    sigma: FloatArray
    weight: FloatArray
    known: MaskArray
    nearest: FloatArray
    spread: FloatArray
    background: FloatArray
    cover: FloatArray


def small_depth(depth, wh, t):
    if depth is None:
        rho = np.full(wh[::-1], 0.2, np.float32)
        return Small(rho, rho, 0 * rho, np.zeros(wh[::-1], bool), rho + 1e3, 0 * rho, rho, 0 * rho)
    known = cv2.resize(depth.valid.astype(np.uint8), wh, interpolation=cv2.INTER_NEAREST).astype(bool)
    rho = cv2.resize(depth.inverse_depth, wh, interpolation=cv2.INTER_NEAREST)
    srho = cv2.resize(depth.sigma, wh, interpolation=cv2.INTER_NEAREST)
    k = np.ones((t.halo_px, t.halo_px), np.uint8)
    hi = cv2.dilate(np.where(known, rho, -1e3).astype(np.float32), k)
    lo = cv2.erode(np.where(known, rho, 1e3).astype(np.float32), k)
    spread = np.where(known, np.maximum(hi - rho, rho - lo), 0).astype(np.float32)
    wide = np.where(spread > 4 * srho + 0.05 * rho, spread, 0)
    weight = np.where(known, 1.0 / np.maximum(srho**2 + wide**2, np.float32(1e-12)), 0.0).astype(np.float32)
    nearest = cv2.dilate(np.where(known, rho, 1e3).astype(np.float32), np.ones((3, 3), np.uint8))
    return Small(
        np.where(known, rho, np.float32(0.2)).astype(np.float32),
        srho.astype(np.float32),
        weight,
        known,
        nearest,
        spread,
        np.where(lo < 1e2, lo, 0.0).astype(np.float32),
        cv2.dilate(np.where(known, rho, 0).astype(np.float32), np.ones((5, 5), np.uint8)),
    )


def shrunk(c: Correspondence, wh):
    """Pixels, visible share and sigma on a smaller grid."""
    height, width = c.visible.shape
    if (width, height) == wh:
        return c.pixels, c.visible.astype(np.float32), c.sigma_px
    by = np.array([wh[0] / width, wh[1] / height], np.float32)
    flow = cv2.resize(c.pixels - grid(height, width), wh, interpolation=cv2.INTER_AREA) * by
    visible = cv2.resize(c.visible.astype(np.float32), wh, interpolation=cv2.INTER_AREA)
    sigma = cv2.resize(c.sigma_px, wh, interpolation=cv2.INTER_AREA) * by.max()
    return flow + grid(wh[1], wh[0]), visible, sigma


def guided(values: FloatArray, gray, radius, levels) -> FloatArray:
    g = gray.astype(np.float32)
    k = (2 * radius + 1, 2 * radius + 1)
    mg, mv = cv2.blur(g, k), cv2.blur(values, k)
    cov = cv2.blur(g * values, k) - mg * mv
    var = cv2.blur(g * g, k) - mg * mg
    a = cov / (var + np.float32(levels**2))
    b = mv - a * mg
    return cv2.blur(a, k) * g + cv2.blur(b, k)


def regions(log_odds, t: MotionTuning) -> MaskArray:
    low = log_odds > t.go_on
    count, labels, stats, _ = cv2.connectedComponentsWithStats(low.astype(np.uint8), connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= t.least_share * low.size
    k = max(3, 2 * round(t.seed_side * log_odds.shape[1] / 2) + 1)
    high = np.bincount(labels[low & (cv2.blur(log_odds, (k, k)) > t.begin)], minlength=count) > 0
    keep &= high
    keep[0] = False
    return keep[labels]
