"""Keeps a step within a time: told how long steps took, it says how long a window may be.

A shorter window costs less in every head and in rolling mode in every pair, and its answer is as right as a longer
one's; it only sees less of the past. Nothing is held back: what is chosen applies from the next window on.
"""

from collections.abc import Mapping, Sequence

STEPS_JUDGED = 24  # with one setting, two windows of the usual length: cheap and dear steps alike
SPARE_SHARE = 0.9  # of the time allowed, which a longer window must be expected to keep
OVER_BUDGET = "over"  # the first word about steps that cannot be made shorter
LONGEST_PATIENCE = 16  # times STEPS_JUDGED, between two attempts at a longer window


def window_levels(window_size: int, overlap: int, mode: str) -> tuple[int, ...]:
    """Lengths of a window from the wanted one downwards, each a sixth of it shorter, not below half of it.

    An anchored window has twice its overlap: with less, frames come that are in three windows, and steps that pair one
    frame with two keys turn into steps that pair several.
    """
    least = max(2, (window_size + 1) // 2, 2 * overlap if mode == "anchored" else overlap + 1)
    step = max(1, window_size // 6)
    return (window_size, *range(window_size - step, least - 1, -step)) if least < window_size else (window_size,)


class LatencyBudget:
    """Chooses one of some window lengths, one level at a time.

    The estimate of a step's time is the second longest of the last :data:`STEPS_JUDGED` steps with one setting, about
    the 95th percentile: one step that was disturbed decides nothing, two are enough to go down. Upwards goes only what
    would fit if all of a step grew with the window; an attempt that fails doubles the wait for the next.
    """

    def __init__(self, window_sizes: Sequence[int]) -> None:
        """``window_sizes``: frames, longest first; see :func:`window_levels`."""
        self._sizes = tuple(window_sizes)
        self._level = 0
        self._allowed_s = 0.0
        self._steps_s: list[float] = []
        self._stages_s: dict[str, float] = {}
        self._estimate_s: float | None = None
        self._patience = 1
        self._judged = 0  # whole rounds since the last change
        self._climbed = False  # the last change was an attempt at a longer window

    @property
    def window_size(self) -> int:
        """Frames of a window from the next one on."""
        return self._sizes[self._level]

    @property
    def estimate_s(self) -> float | None:
        """Seconds that a dear step takes; None before there were two with this setting."""
        return self._estimate_s

    @property
    def is_over(self) -> bool:
        """Whether steps take too long and nothing is left to save."""
        return bool(self._allowed_s) and self._level == len(self._sizes) - 1 and self._exceeded()

    def observe(self, stage_seconds: Mapping[str, float], allowed_s: float, window_size: int) -> None:
        """Take in one step.

        Args:
            stage_seconds: what it took, by stage.
            allowed_s: what it may take; 0: anything.
            window_size: the length of window that it had; steps of a former choice are not counted.
        """
        if allowed_s != self._allowed_s:
            self._allowed_s, self._patience = allowed_s, 1
            self._change(self._level if allowed_s else 0, climbed=False)
        if not allowed_s or window_size != self.window_size:
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

    def describe(self) -> str:
        """What was chosen, in one line; empty where any time is allowed."""
        if not self._allowed_s:
            return ""
        window = f"window {self.window_size} of {self._sizes[0]}"
        if self._estimate_s is None:
            return f"{window}, measuring"
        stages = ", ".join(f"{stage} {1e3 * seconds:.0f}" for stage, seconds in self._stages_s.items())
        verdict = f"{OVER_BUDGET}: " if self.is_over else ""
        return f"{verdict}{window}, {1e3 * self._estimate_s:.0f} of {1e3 * self._allowed_s:.0f} ms (last: {stages})"

    def _exceeded(self) -> bool:
        return self._estimate_s is not None and self._estimate_s > self._allowed_s

    def _decide(self, whole: bool) -> None:
        """Go down as soon as it is certain that these steps are too long; up only after a whole round of them."""
        if self._exceeded():
            if self._climbed:
                self._patience = min(2 * self._patience, LONGEST_PATIENCE)
            if self._level + 1 < len(self._sizes):
                self._change(self._level + 1, climbed=False)
        elif whole:
            self._judged += 1
            self._climbed = False
            if self._judged >= self._patience and self._level and self._would_fit(self._sizes[self._level - 1]):
                self._change(self._level - 1, climbed=True)

    def _would_fit(self, longer: int) -> bool:
        return (self._estimate_s or 0.0) * longer / self.window_size <= SPARE_SHARE * self._allowed_s

    def _change(self, level: int, *, climbed: bool) -> None:
        self._level, self._climbed, self._judged = level, climbed, 0
        self._steps_s, self._estimate_s = [], None
