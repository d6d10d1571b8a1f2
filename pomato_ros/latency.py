"""Keeps a step within a time: from how long the last steps took it chooses how the next ones are done.

What is given up, the cheapest loss first: taking several frames at once, which saves work but has frames wait; then
length of the window, whose answer is as right as a longer one's and only sees less of the past; then the matching
pointmap that nothing but tracks reads: they are found in the image alone, where some are lost, and all else stays as it
was; then every other pixel of the maps, which are interpolated. The moving mask's matching pointmap is never left out:
without it the mask would be empty within a few frames, and pose and static points wrong where things move. Nothing is
held back: what is chosen applies from the next step on, the window's length from the next window on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pomato_ros.structures import BudgetReport, BudgetState

STEPS_JUDGED = 24  # with one setting, two windows of the usual length: cheap and dear steps alike
SPARE_SHARE = 0.9  # of the time allowed, which a dearer setting must be expected to keep
LONGEST_PATIENCE = 16  # times STEPS_JUDGED, between two attempts at a dearer setting
COARSE_STRIDE = 2  # of the maps; with 4 they are three times as far off (dev/LOG.md)
COARSE_SHARE = 0.8  # of a step's time, which is left of it at least with coarse maps
UNMATCHED_SHARE = 0.75  # likewise without the tracks' matching pointmap: 0.79 of nano's arithmetic, 0.85 of the full


@dataclass(frozen=True, slots=True)
class Setting:
    """How steps are done."""

    window_size: int  # frames
    hop: int = 1  # frames taken at once
    stride: int = 1  # pixels from one that is computed to the next
    match_tracks: bool = True  # else tracks are found in the image alone

    @property
    def cost(self) -> float:
        """A step's time if all of it grew with what the setting asks for; right only beside another setting's."""
        heads = 1.0 if self.match_tracks else UNMATCHED_SHARE
        return self.window_size * self.hop * heads * (COARSE_SHARE if self.stride > 1 else 1.0)


def settings(window_size: int, overlap: int, mode: str, hop: int = 1) -> tuple[Setting, ...]:
    """From what the options ask for downwards, one thing given up at a time."""
    hops = [hop]
    while hops[-1] > 1:
        hops.append(hops[-1] // 2)
    sizes = window_levels(window_size, overlap, mode)
    eager = [Setting(window_size, each) for each in hops]
    least = Setting(sizes[-1], match_tracks=False)
    return (*eager, *(Setting(size) for size in sizes[1:]), least, replace(least, stride=COARSE_STRIDE))


def window_levels(window_size: int, overlap: int, mode: str) -> tuple[int, ...]:
    """Lengths of a window from the wanted one downwards, each a sixth of it shorter, not below half of it.

    An anchored window has twice its overlap: with less, frames come that are in three windows, and steps that pair one
    frame with two keys turn into steps that pair several.
    """
    least = max(2, (window_size + 1) // 2, 2 * overlap if mode == "anchored" else overlap + 1)
    step = max(1, window_size // 6)
    return (window_size, *range(window_size - step, least - 1, -step)) if least < window_size else (window_size,)


class LatencyBudget:
    """Chooses one of some settings, one level at a time.

    The estimate of a step's time is the second longest of the last :data:`STEPS_JUDGED` steps with one setting, about
    the 95th percentile: one step that was disturbed decides nothing, two are enough to go down. Upwards goes only what
    would fit if all of a step grew with it; an attempt that fails doubles the wait for the next.
    """

    def __init__(self, levels: Sequence[Setting]) -> None:
        """``levels``: dearest first; see :func:`settings`."""
        self._levels = tuple(levels)
        self._level = 0
        self._allowed_s = 0.0
        self._steps_s: list[float] = []
        self._stages_s: dict[str, float] = {}
        self._estimate_s: float | None = None
        self._patience = 1
        self._judged = 0  # whole rounds since the last change
        self._climbed = False  # the last change was an attempt at a dearer setting

    @property
    def setting(self) -> Setting:
        """How to do the next steps; the window's length from the next window on."""
        return self._levels[self._level]

    @property
    def estimate_s(self) -> float | None:
        """Seconds that a dear step takes; None before there were two with this setting."""
        return self._estimate_s

    @property
    def is_over(self) -> bool:
        """Whether steps take too long and nothing is left to save."""
        return bool(self._allowed_s) and self._level == len(self._levels) - 1 and self._exceeded()

    def observe(self, stage_seconds: Mapping[str, float], allowed_s: float, used: Setting) -> None:
        """Take in one step.

        Args:
            stage_seconds: what it took, by stage.
            allowed_s: what it may take; 0: anything.
            used: how it was done; steps of a former choice are not counted.
        """
        if allowed_s != self._allowed_s:
            self._allowed_s, self._patience = allowed_s, 1
            self._change(self._level if allowed_s else 0, climbed=False)
        if not allowed_s or used != self.setting:
            return
        if len(self._steps_s) == STEPS_JUDGED:
            self._steps_s = []
        self._stages_s = dict(stage_seconds)
        self._steps_s.append(sum(stage_seconds.values()))
        if len(self._steps_s) > 1:
            second = sorted(self._steps_s)[-2]
            whole = len(self._steps_s) == STEPS_JUDGED
            self._estimate_s = second if whole or self._estimate_s is None else max(second, self._estimate_s)
            self._decide(whole)

    def report(self) -> BudgetReport:
        """What was chosen, and whether the limit is kept; nothing where any time is allowed."""
        if not self._allowed_s:
            return BudgetReport()
        chosen = self._describe_setting()
        if self._estimate_s is None:
            return BudgetReport(BudgetState.MEASURING, f"{chosen}, measuring")
        stages = ", ".join(f"{stage} {1e3 * seconds:.0f}" for stage, seconds in self._stages_s.items())
        times = f"{1e3 * self._estimate_s:.0f} of {1e3 * self._allowed_s:.0f} ms (last: {stages})"
        if self.is_over:
            return BudgetReport(BudgetState.EXCEEDED, f"over: {chosen}, {times}")
        return BudgetReport(BudgetState.WITHIN, f"{chosen}, {times}")

    def _describe_setting(self) -> str:
        chosen = f"window {self.setting.window_size} of {self._levels[0].window_size}"
        if self._levels[0].hop > 1:
            chosen += f", {self.setting.hop} of {self._levels[0].hop} frames at once"
        if not self.setting.match_tracks:
            chosen += ", tracks found in the image alone"
        if self.setting.stride > 1:
            chosen += f", one pixel in {self.setting.stride} by {self.setting.stride}"
        return chosen

    def _exceeded(self) -> bool:
        return self._estimate_s is not None and self._estimate_s > self._allowed_s

    def _decide(self, whole: bool) -> None:
        """Go down as soon as it is certain that these steps are too long; up only after a whole round of them."""
        if self._exceeded():
            if self._climbed:
                self._patience = min(2 * self._patience, LONGEST_PATIENCE)
            if self._level + 1 < len(self._levels):
                self._change(self._level + 1, climbed=False)
        elif whole:
            self._judged += 1
            self._climbed = False
            if self._judged >= self._patience and self._level and self._would_fit(self._levels[self._level - 1]):
                self._change(self._level - 1, climbed=True)

    def _would_fit(self, dearer: Setting) -> bool:
        return (self._estimate_s or 0.0) * dearer.cost / self.setting.cost <= SPARE_SHARE * self._allowed_s

    def _change(self, level: int, *, climbed: bool) -> None:
        self._level, self._climbed, self._judged = level, climbed, 0
        self._steps_s, self._estimate_s = [], None
