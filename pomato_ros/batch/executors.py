"""Where tasks run: on Ray, or in this process; either hands back what became of each task, in any order."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pomato_ros.batch.chunk_task import ChunkTask, run_task
from pomato_ros.batch.options import BatchOptions
from pomato_ros.batch.store import Store
from pomato_ros.config import PomatoConfig
from pomato_ros.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task, and why it failed; an empty reason: it is done."""

    task: ChunkTask
    reason: str = ""


class Executor(Protocol):
    """Runs tasks."""

    def run(self, tasks: Iterable[ChunkTask], store: Store, config: PomatoConfig) -> Iterator[Outcome]:
        """Outcomes as they come; no more tasks are taken than can be worked on."""


class InProcess:
    """One task after the other, in this process."""

    def run(self, tasks: Iterable[ChunkTask], store: Store, config: PomatoConfig) -> Iterator[Outcome]:
        """See :class:`Executor`."""
        for task in tasks:
            yield attempt(task, store, config)


class OnRay:
    """Tasks on a Ray cluster: the one at ``address``, or one of its own on this machine."""

    def __init__(self, options: BatchOptions, address: str | None = None) -> None:
        """Connect, or start with as many processors as there are workers.

        Raises:
            ConfigError: Ray is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise ConfigError("workers need Ray; run: pip install 'pomato_ros[batch]', or use --workers 0") from error
        self._options = options
        self._ray: Any = ray
        if ray.is_initialized():
            return
        own: dict[str, Any] = {"num_cpus": max(1, round(options.workers * options.cpus)), "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, configure_logging=False, **({} if address else own))

    def run(self, tasks: Iterable[ChunkTask], store: Store, config: PomatoConfig) -> Iterator[Outcome]:
        """See :class:`Executor`; a worker that dies is replaced and its task tried again."""
        remote = self._ray.remote(
            num_cpus=self._options.cpus, num_gpus=self._options.gpus, max_retries=self._options.retries
        )(attempt)
        queue, running = iter(tasks), dict[Any, ChunkTask]()
        room = self._options.workers * self._options.in_flight
        while True:
            while len(running) < room and (task := next(queue, None)) is not None:
                running[remote.remote(task, store, config)] = task
            if not running:
                return
            finished, _ = self._ray.wait(list(running), num_returns=1)
            for reference in finished:
                yield self._outcome(running.pop(reference), reference)

    def close(self) -> None:
        """Let go of the cluster."""
        self._ray.shutdown()

    def _outcome(self, task: ChunkTask, reference: Any) -> Outcome:
        """What came back, or that every worker died of it."""
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Outcome(task, f"the worker died {self._options.retries + 1} times: {type(error).__name__}")
        return outcome


def attempt(
    task: ChunkTask, store: Store, config: PomatoConfig, run: Callable[[ChunkTask, Store, PomatoConfig], int] = run_task
) -> Outcome:
    """Run a task; whatever a recording does wrong becomes the reason and ends nothing else."""
    try:
        run(task, store, config)
    except Exception as error:  # one bad recording must not end a fleet's run
        return Outcome(task, f"{type(error).__name__}: {error}")
    return Outcome(task)
