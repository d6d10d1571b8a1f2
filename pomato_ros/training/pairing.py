"""Which frames of a training window are paired: as the engine does, and as the paper's three tasks do."""

from collections.abc import Sequence
from dataclasses import dataclass

from pomato_ros.training.config import Task


@dataclass(frozen=True, slots=True)
class Pairing:
    """P pairs of one window, in the order of its frames.

    ``both_orders``: every pair is also there the other way round, all windows' pairs first and then all reversed ones.
    """

    view_1: tuple[int, ...]
    view_2: tuple[int, ...]
    both_orders: bool = False

    @property
    def orders(self) -> tuple["Pairing", ...]:
        """The pairing itself, and the reversed one where it is there too."""
        return (self, Pairing(self.view_2, self.view_1)) if self.both_orders else (self,)


def pair_with_key(frames: Sequence[int], key: int) -> Pairing:
    """The engine's pairs: each of ``frames`` against the window's frame ``key``, in both orders."""
    return Pairing(tuple(frames), (key,) * len(frames), both_orders=True)


def pair_for_task(task: Task, frames: int, key: int) -> Pairing:
    """Pairs of a whole window of T frames; ``key`` matters to the engine's only (paper, section 3.3).

    | task | view 1 | view 2 | what it is for |
    |---|---|---|---|
    | engine | every frame t | the key | odometry, mask and tracks; in both orders |
    | tracking | every frame t | the first frame | third head: where frame 0's pixels are at t, in camera t |
    | video depth | every frame t | the same | first head: X^{t,t} |
    | fast reconstruction | the last frame | every frame t | second head: X^{t,T}, all in one camera |

    They are the pairs of :func:`pomato_ros.sources.dust3r.wiring.predict_wiring`.
    """
    every = tuple(range(frames))
    if task is Task.ENGINE:
        return pair_with_key(every, key)
    return {
        Task.TRACKING: Pairing(every, (0,) * frames),
        Task.VIDEO_DEPTH: Pairing(every, every),
        Task.FAST_RECONSTRUCTION: Pairing((frames - 1,) * frames, every),
    }[task]
