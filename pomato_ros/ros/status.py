"""What the node knows about its own health: counters and last words, read once a second by the diagnostics."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pomato_ros.ros.streams import RateMeter, StreamMonitor
from pomato_ros.structures import BudgetReport

DURATIONS_KEPT = 200


class Durations:
    """The last durations of one kind, for percentiles."""

    def __init__(self) -> None:
        """Start with none."""
        self._milliseconds: deque[float] = deque(maxlen=DURATIONS_KEPT)

    def add_seconds(self, seconds: float) -> None:
        """Add one duration."""
        self._milliseconds.append(1e3 * seconds)

    def last_ms(self) -> float | None:
        """The newest duration."""
        return self._milliseconds[-1] if self._milliseconds else None

    def percentile_ms(self, percent: float) -> float | None:
        """A percentile over the kept durations."""
        kept = tuple(self._milliseconds)
        return float(np.percentile(kept, percent)) if kept else None


@dataclass(slots=True)
class InputStatus:
    """What came in."""

    stream: StreamMonitor = field(default_factory=StreamMonitor)  # of the images
    camera_info_topic: str = ""
    frames_passed_over: int = 0
    drops: Counter[str] = field(default_factory=Counter)  # by kind
    last_drop: str = ""
    drop_is_news: bool = False  # a drop since the last diagnostics
    camera: str = "no camera_info yet"
    camera_info_refused: int = 0
    camera_info_error: str = ""
    image_size: str = ""
    encoding: str = ""
    frame_id: str = ""
    time_jumps: int = 0
    size_changes: int = 0
    paused: bool = False
    qos_conflicts: dict[str, str] = field(default_factory=dict)  # by topic
    other_transport: str = ""  # a topic with publishers that carries the same images in the other form

    @property
    def frames_in(self) -> int:
        """Images that arrived."""
        return self.stream.arrived

    def drop(self, kind: str, reason: str) -> None:
        """Count a frame that cannot be used."""
        self.drops[kind] += 1
        self.last_drop = reason
        self.drop_is_news = True


@dataclass(slots=True)
class ScaleInputStatus:
    """What came in to tell metres."""

    stream: StreamMonitor = field(default_factory=StreamMonitor)
    own_publishers: int = 0  # of this node, on the same topic
    used: int = 0  # frames with one
    unmatched: int = 0  # frames without one of their time
    drops: Counter[str] = field(default_factory=Counter)  # by kind
    last_drop: str = ""
    drop_is_news: bool = False  # a drop since the last diagnostics

    @property
    def messages_in(self) -> int:
        """Messages that arrived; on TF, those of other nodes."""
        return self.stream.arrived


@dataclass(slots=True)
class SensorStatus:
    """What came in of the sensor of a metric backend: a depth camera, or the right camera of a pair."""

    stream: StreamMonitor = field(default_factory=StreamMonitor)  # topic empty where the backend has no such sensor
    paired: int = 0  # images with a message of their time
    unpaired: int = 0
    last_unpaired: str = ""
    pairs: RateMeter = field(default_factory=RateMeter)
    offsets_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DURATIONS_KEPT))  # message minus image
    drops: Counter[str] = field(default_factory=Counter)  # of paired messages, by kind
    last_drop: str = ""
    drop_is_news: bool = False  # a drop since the last diagnostics
    used_as: str = ""  # how it is brought to the image's pixels
    baseline_m: float | None = None
    facts: dict[str, float] = field(default_factory=dict)  # the source's, of the newest frame

    def note_paired(self, offset_ms: float) -> None:
        """An image has a message."""
        self.paired += 1
        self.pairs.tick()
        self.offsets_ms.append(offset_ms)

    def note_unpaired(self, reason: str) -> None:
        """An image has none."""
        self.unpaired += 1
        self.last_unpaired = reason

    def drop(self, kind: str, reason: str) -> None:
        """Count a message that cannot be used."""
        self.drops[kind] += 1
        self.last_drop, self.drop_is_news = reason, True

    def offset_ms(self) -> float | None:
        """Median offset of the last pairs."""
        kept = tuple(self.offsets_ms)
        return float(np.median(kept)) if kept else None


@dataclass(slots=True)
class EngineStatus:
    """What the engine did."""

    steps: int = 0
    errors: int = 0
    last_error: str = ""
    error_is_news: bool = False
    out_of_memory: int = 0
    resets: int = 0
    rate: RateMeter = field(default_factory=RateMeter)
    step: Durations = field(default_factory=Durations)
    stages: dict[str, Durations] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    model_error: str = ""
    worker_restarts: int = 0
    backend: str = ""
    backend_reason: str = ""
    backend_hint: str = ""  # a sensor that came after activation; empty: none
    busy_since_s: float | None = None  # steady clock; None: no step at hand

    def fail(self, sentence: str) -> None:
        """Count an error and name it in the next diagnostics."""
        self.errors += 1
        self.last_error, self.error_is_news = sentence, True


@dataclass(slots=True)
class OutputStatus:
    """What went out."""

    tf_available: bool = True
    topics_with_subscribers: tuple[str, ...] = ()
    tf_sent: int = 0
    tf_refused: int = 0
    latency: Durations = field(default_factory=Durations)
    messages: Durations = field(default_factory=Durations)
    age_ms: float | None = None  # of the newest step's stamp by the node's clock when it was sent
    ros_time_is_simulated: bool = False


@dataclass(slots=True)
class SceneStatus:
    """What the newest step said."""

    state: str = ""
    frames_in_window: int = 0
    inlier_ratio: float | None = None
    position_odom: tuple[float, float, float] | None = None
    tracks: int = 0
    moving_share: float | None = None
    metres_per_unit: float | None = None
    budget: BudgetReport = BudgetReport()
    left_out: str = ""
    scale_std: float | None = None
    focal_px: float | None = None
    intrinsics_known: bool | None = None


@dataclass(slots=True)
class MountStatus:
    """How the camera sits on the base."""

    source: str = "not looked up yet"
    assumed: bool = False
    warning: str = ""
    other_odometry: str = ""


@dataclass(slots=True)
class NodeStatus:
    """All of it; each part is written by one thread and read by the diagnostics timer."""

    lifecycle: str = "unconfigured"
    active_since_s: float | None = None
    input: InputStatus = field(default_factory=InputStatus)
    scale_input: ScaleInputStatus = field(default_factory=ScaleInputStatus)
    depth: SensorStatus = field(default_factory=SensorStatus)
    right: SensorStatus = field(default_factory=SensorStatus)
    engine: EngineStatus = field(default_factory=EngineStatus)
    output: OutputStatus = field(default_factory=OutputStatus)
    scene: SceneStatus = field(default_factory=SceneStatus)
    mount: MountStatus = field(default_factory=MountStatus)

    def note_callback_failure(self, sentence: str) -> None:
        """Count something that went wrong outside a step."""
        self.engine.fail(f"callback: {sentence}")
