"""How far the network's own poses are to be believed: learned from how they agree with image features.

A network tells its errors badly: a good one is about as right as its residuals say, a weak one with the same residuals
has errors ten times as large, a hundred in variance. Features, whose errors are known, tell the two apart within a few
frames.
"""

from collections import deque
from statistics import median

import numpy as np

MEMORY = 30  # comparisons whose median counts
BEGUN_WITH, DOUBTED_BY = 1, 300.0  # comparisons that are made up at the start, as with a weak network
USUAL = 5.35  # median of a squared distance over six degrees of freedom
WEAK = 40.0  # of the variances; above this it is the network that errs; bundled nano: 40 to 700,
GOOD = 25.0  # and only below this it no longer is: good networks have 1 to 3
CERTAIN = 6  # chances to compare from which weakness is no mere assumption
# share of the pixels that must agree with a pose of a weak network that nothing in the image backs; of bundled nano's
# 0.05 to 0.3 do, in noise as in images, of a good network's at least 0.6
ENOUGH_ALONE = 0.5
BELIEVED = 4.0  # below it, what is beyond this is put down to features, many of which may move together


class PoseTrust:
    """By how much the variances that pointmaps give for their poses are too small."""

    def __init__(self) -> None:
        """Nothing compared yet: weak."""
        self._ratios: deque[float] = deque([DOUBTED_BY] * BEGUN_WITH, maxlen=MEMORY)
        self._usual = DOUBTED_BY
        self._chances = 0
        self._is_weak = True

    def chance(self) -> None:
        """There was a pose of features to compare with, whether or not the pointmap had one that was worth it."""
        self._chances += 1

    def compare(self, squared_distance: float) -> None:
        """Take in one more comparison: Mahalanobis' squared distance of the pointmap's pose from that of features."""
        if np.isfinite(squared_distance):
            self._ratios.append(squared_distance / USUAL)
            self._usual = median(self._ratios)
            self._is_weak = self._usual > (GOOD if self._is_weak else WEAK)

    @property
    def is_weak(self) -> bool:
        """The network errs, as far as is known; at the start nothing is."""
        return self._is_weak

    @property
    def is_surely_weak(self) -> bool:
        """The network errs, after several chances to show that it does not."""
        return self.is_weak and self._chances >= CERTAIN

    @property
    def variance_factor(self) -> float:
        """At least 1."""
        return self._usual if self.is_weak else float(np.clip(self._usual, 1.0, BELIEVED))

    @property
    def astray_variance_factor(self) -> float:
        """By how much the variance of the way that a path on landmarks goes astray is too small; at least 1.

        All landmarks hang on the network's depth, whose shape errs for all alike, and on what it says is at rest. What
        is beyond what good networks differ by from features is doubt of that, whichever of both errs.
        """
        return max(1.0, self._usual - BELIEVED + 1.0)

    @property
    def features_variance_factor(self) -> float:
        """By how much the variances of poses on features are too small, where it is not the network that errs."""
        return 1.0 if self.is_weak else max(1.0, self._usual)
