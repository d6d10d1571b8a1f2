"""Every default of batch runs, with its unit and range."""

from dataclasses import dataclass

from pomato_ros.config import option


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How recordings are cut and spread over workers."""

    chunk: int = option(120, "frames that one task sees", unit="frames", minimum=4)
    overlap: int = option(24, "frames that neighbouring tasks share; the first ones only fill the window", minimum=2)
    workers: int = option(2, "tasks at a time on this machine; 0: no cluster, one after the other", minimum=0)
    cpus: float = option(1.0, "processors that a task takes", minimum=0.0)
    gpus: float = option(0.0, "share of a GPU that a task takes; so many tasks share one", minimum=0.0, maximum=1.0)
    in_flight: int = option(2, "tasks handed out for each worker; the others wait in the driver", minimum=1)
    retries: int = option(3, "times that a task is given to another worker when its worker dies", minimum=0)
    max_frames: int = option(0, "frames of a recording that are used at most; 0: all", unit="frames", minimum=0)
