"""A fleet's night on a virtual clock: tasks of measured lengths on many workers, failures injected.

Each bag is cut into tasks as the driver cuts it. A task's service time is that of one frame, drawn from the measured
ones, times its frames, plus the time to start. Workers take the next task when they are free (list scheduling). A
worker that dies loses what it had done of its task, comes back after a while, and the task is tried again, as in the
real driver; a bag that is broken costs one short task and goes to quarantine. The ideal is all work that was needed,
spread evenly over all workers without a failure.
"""

import heapq
from dataclasses import dataclass

import numpy as np

from pomato_ros.batch.driver import cut
from pomato_ros.batch.options import BatchOptions


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What is simulated.

    Attributes:
        bags: number of recordings.
        frames: of a recording on average; lengths are spread log-normally by ``frames_spread`` (of the logarithm).
        workers: tasks at a time.
        seconds_per_frame: measured service times of a frame, drawn from evenly.
        start_s: of a task, to open the recording and fill the window.
        failures_per_hour: of one worker.
        restart_s: until a worker that died is back.
        broken_share: of bags that cannot be read.
        cost_per_worker_hour: in any currency.
        seed: of all that is drawn.
    """

    bags: int = 10_000
    frames: float = 3600.0
    frames_spread: float = 0.5
    workers: int = 100
    seconds_per_frame: tuple[float, ...] = (0.1,)
    start_s: float = 2.0
    failures_per_hour: float = 0.05
    restart_s: float = 60.0
    broken_share: float = 0.01
    cost_per_worker_hour: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What came out, seconds of virtual time."""

    tasks: int
    quarantined: int
    worker_failures: int
    makespan_s: float
    ideal_s: float
    work_s: float  # that was needed
    lost_s: float  # of work that died with its worker
    utilisation: float  # share of the workers' time until the end that needed work took
    cost: float

    @property
    def over_ideal(self) -> float:
        """Makespan over the ideal one."""
        return self.makespan_s / self.ideal_s if self.ideal_s else 1.0


def simulate(plan: FleetPlan, options: BatchOptions) -> FleetResult:
    """One night."""
    draw = np.random.default_rng(plan.seed)
    tasks, quarantined = _tasks(plan, options, draw)
    free = [(0.0, worker) for worker in range(plan.workers)]
    heapq.heapify(free)
    failures, lost_s = 0, 0.0
    end_s = 0.0
    queue = list(reversed(tasks))
    while queue:
        length_s = queue.pop()
        now_s, worker = heapq.heappop(free)
        dies_s = _time_to_failure(plan, draw)
        if dies_s < length_s:
            failures, lost_s = failures + 1, lost_s + dies_s
            queue.append(length_s)
            heapq.heappush(free, (now_s + dies_s + plan.restart_s, worker))
            continue
        end_s = max(end_s, now_s + length_s)
        heapq.heappush(free, (now_s + length_s, worker))
    work_s = float(sum(tasks))
    busy = plan.workers * end_s
    return FleetResult(
        tasks=len(tasks),
        quarantined=quarantined,
        worker_failures=failures,
        makespan_s=end_s,
        ideal_s=max(work_s / plan.workers, max(tasks, default=0.0)),
        work_s=work_s,
        lost_s=lost_s,
        utilisation=work_s / busy if busy else 0.0,
        cost=plan.cost_per_worker_hour * busy / 3600,
    )


def _tasks(plan: FleetPlan, options: BatchOptions, draw: np.random.Generator) -> tuple[list[float], int]:
    """Lengths of all tasks in s, in the order in which they are handed out, and the number of broken bags."""
    measured = np.asarray(plan.seconds_per_frame, dtype=np.float64)
    spread = plan.frames_spread
    lengths = np.exp(draw.normal(np.log(plan.frames) - spread**2 / 2, spread, plan.bags)).astype(int)
    broken = draw.random(plan.bags) < plan.broken_share
    tasks: list[float] = []
    for frames, fails in zip(lengths.tolist(), broken.tolist(), strict=True):
        if fails:
            tasks.append(plan.start_s)
            continue
        rate_s = float(draw.choice(measured))
        tasks += [plan.start_s + rate_s * count for _, count in cut(max(frames, 2), options)]
    return tasks, int(broken.sum())


def _time_to_failure(plan: FleetPlan, draw: np.random.Generator) -> float:
    """Seconds until the worker dies, drawn from an exponential."""
    return float(draw.exponential(3600 / plan.failures_per_hour)) if plan.failures_per_hour > 0 else np.inf


def describe(plan: FleetPlan, result: FleetResult) -> list[tuple[str, str]]:
    """Lines of name and value, beside the ideal."""
    hours = 1 / 3600
    return [
        ("bags, workers", f"{plan.bags}, {plan.workers}"),
        ("tasks", str(result.tasks)),
        ("in quarantine", str(result.quarantined)),
        ("workers that died", str(result.worker_failures)),
        ("makespan", f"{result.makespan_s * hours:.2f} h"),
        ("ideal makespan", f"{result.ideal_s * hours:.2f} h ({result.over_ideal:.3f} times)"),
        ("utilisation", f"{100 * result.utilisation:.1f} %"),
        ("work lost with workers", f"{result.lost_s * hours:.2f} h"),
        ("cost", f"{result.cost:.2f}"),
    ]
