"""The node's health as DiagnosticStatus messages with fixed keys (REP-107 names: ``node: component``)."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from pomato_ros.config import PomatoConfig
from pomato_ros.ros.depth_frames import DEPTH_DROPS
from pomato_ros.ros.perception import SILENT_INTERVALS
from pomato_ros.ros.right_frames import RIGHT_DROPS
from pomato_ros.ros.status import EngineStatus, InputStatus, NodeStatus, SensorStatus
from pomato_ros.ros.streams import StreamMonitor
from pomato_ros.structures import BudgetState, TrackingState

SILENCE_S = 5.0
STALE_AGE_S, FUTURE_S = 5.0, 0.2  # of an image's stamp when its outputs are sent: beyond is a warning
FOREIGN_S = 3600.0  # an age beyond this is another clock's
STUCK_S = 60.0  # a step that takes longer will hardly end; recording a GPU's graphs takes less
SLOW_RATE_HZ = 0.1
MISSING_SHARE = 0.1  # more than this share of the last ten seconds' messages missing is a warning
BEST_EFFORT_REMEDY = (
    "its publisher is best effort: make it reliable, or give its process config/fastdds.xml in "
    "FASTRTPS_DEFAULT_PROFILES_FILE (by default Fast DDS drops most messages above half a megabyte)"
)
RELIABLE_REMEDY = "it is reliable, so the link or its publisher's queue is too small: send smaller or fewer images"
STEREO_REMEDIES = {
    "swapped": "exchange left and right, images and camera_info",
    "unrectified": "rows of both images do not agree; calibrate the pair again",
    "unsynchronised": "the images are of different times; trigger both cameras together",
}
METRIC_SOURCES = {"rgbd": "the depth camera", "stereo": "the stereo baseline"}  # by backend
METRIC_STD = 0.1  # lengths within ten percent are called metric
DROP_KINDS = ("undecodable", "bad_stamp", "unconfirmed", "repeated", "late", "no_camera_info", "unusable", "waiting")
OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)
Values = Mapping[str, Any]

PAIRED_KEYS = (  # of every sensor whose messages are paired with images
    "topic",
    "publishers",
    "reliability",
    "received",
    "lost",
    "rate_hz",
    "paired",
    "unpaired",
    "last_unpaired",
    "offset_ms",
)
DIAGNOSTIC_KEYS: Mapping[str, tuple[str, ...]] = {
    "input": (
        "image_topic",
        "image_publishers",
        "reliability",
        "frames_in",
        "frames_lost",
        "frames_skipped",
        "frames_passed_over",
        "frames_dropped",
        "dropped_undecodable",
        "dropped_bad_stamp",
        "dropped_unconfirmed",
        "dropped_repeated",
        "dropped_late",
        "dropped_no_camera_info",
        "dropped_unusable",
        "dropped_waiting",
        "last_drop",
        "rate_hz",
        "seconds_since_frame",
        "encoding",
        "image_size",
        "frame_id",
        "camera_info",
        "camera_info_refused",
        "camera_info_error",
        "time_jumps",
        "size_changes",
        "paused",
        "incompatible_qos",
    ),
    "window": ("frames", "window_size", "mode", "resets", "budget", "left_out"),
    "inference": (
        "steps",
        "rate_hz",
        "step_ms_p50",
        "step_ms_p95",
        "preprocess_ms",
        "model_ms",
        "scene_ms",
        "errors",
        "last_error",
        "out_of_memory",
        "worker_restarts",
    ),
    "output": (
        "topics",
        "messages_ms",
        "latency_ms",
        "latency_ms_p50",
        "latency_ms_p95",
        "age_ms",
        "tf_sent",
        "tf_refused",
    ),
    "tracking": (
        "state",
        "inlier_ratio",
        "position",
        "tracks",
        "moving_share",
        "odom_frame",
        "base_frame",
        "mount",
        "mount_assumed",
        "other_odometry",
    ),
    "scale": (
        "source",
        "metres_per_unit",
        "scale_std",
        "metric",
        "input_topic",
        "input_publishers",
        "input_messages",
        "input_lost",
        "input_rate_hz",
        "frames_with_input",
        "frames_without_input",
        "input_dropped",
        "last_drop",
        "focal_px",
        "focal_from",
    ),
    "depth": (
        *PAIRED_KEYS,
        "valid_share",
        "used_as",
        "dropped",
        *(f"dropped_{kind}" for kind in DEPTH_DROPS),
        "last_drop",
    ),
    "right": (
        *PAIRED_KEYS,
        "used_as",
        "dropped",
        *(f"dropped_{kind}" for kind in RIGHT_DROPS),
        "last_drop",
        "baseline_m",
        "valid_share",
        "matched_share",
        "vertical_offset_px",
        "vertical_spread_px",
        "swapped",
        "unrectified",
        "unsynchronised",
    ),
    "model": (
        "lifecycle",
        "backend",
        "backend_reason",
        "checkpoint",
        "sha256",
        "parameters",
        "temporal_length",
        "image_size_px",
        "device",
        "precision",
    ),
}


def build_statuses(node_name: str, status: NodeStatus, config: PomatoConfig) -> list[DiagnosticStatus]:
    """One status for each component, in the order of :data:`DIAGNOSTIC_KEYS`; ``node_name`` with its namespace."""
    parts = {
        "input": input_part(status),
        "window": window_part(status, config),
        "inference": inference_part(status.engine, config.window.max_rate_hz),
        "output": output_part(status),
        "tracking": tracking_part(status, config),
        "scale": scale_part(status, config),
        "depth": depth_part(status),
        "right": right_part(status),
        "model": model_part(status),
    }
    return [diagnostic_status(node_name, component, *parts[component]) for component in DIAGNOSTIC_KEYS]


def diagnostic_status(node_name: str, component: str, level: bytes, message: str, values: Values) -> DiagnosticStatus:
    """One message; every key of the component is there, in order, unknown values empty."""
    return DiagnosticStatus(
        level=level,
        name=f"{node_name}: {component}",
        message=message,
        hardware_id=node_name,
        values=[KeyValue(key=key, value=value_text(values[key])) for key in DIAGNOSTIC_KEYS[component]],
    )


def value_text(value: Any) -> str:
    """A value as diagnostics show it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def input_part(status: NodeStatus) -> tuple[bytes, str, Values]:
    """What comes in, and if nothing does, which topic is silent."""
    came = status.input
    values = {
        "image_topic": came.stream.topic,
        "image_publishers": came.stream.publishers,
        "reliability": reliability_word(came.stream.reliable),
        "frames_in": came.frames_in,
        "frames_lost": came.stream.lost.total,
        "frames_skipped": came.stream.skipped.total,
        "frames_passed_over": came.frames_passed_over + came.stream.overtaken.total,
        "frames_dropped": came.drops.total(),
        **{f"dropped_{kind}": came.drops[kind] for kind in DROP_KINDS},
        "last_drop": came.last_drop,
        "rate_hz": came.stream.arrivals.rate_hz(),
        "seconds_since_frame": came.stream.arrivals.seconds_since(),
        "encoding": came.encoding,
        "image_size": came.image_size,
        "frame_id": came.frame_id,
        "camera_info": came.camera,
        "camera_info_refused": came.camera_info_refused,
        "camera_info_error": came.camera_info_error,
        "time_jumps": came.time_jumps,
        "size_changes": came.size_changes,
        "paused": came.paused,
        "incompatible_qos": "; ".join(came.qos_conflicts.values()),
    }
    return (*input_verdict(status, came), values)


def input_verdict(status: NodeStatus, came: InputStatus) -> tuple[bytes, str]:
    """Level and message of the input."""
    if status.active_since_s is None:
        return OK, f"not subscribed while {status.lifecycle}"
    if came.paused:
        return WARN, "paused by ~/set_paused"
    silent_s = silence_s(came.stream, status.active_since_s)
    if silent_s > max(SILENCE_S, SILENT_INTERVALS * (came.stream.period_s or 0.0)):
        return ERROR, silence_message(came, silent_s)
    if came.drop_is_news:
        return WARN, f"frame dropped: {came.last_drop}"
    if came.camera_info_error:
        return WARN, came.camera_info_error
    if came.qos_conflicts:
        return WARN, next(iter(came.qos_conflicts.values()))
    if came.frames_in == 0:
        return WARN, f"waiting for the first image on '{came.stream.topic}'"
    gaps = gap_message(came.stream, "images")
    if gaps:
        return WARN, gaps
    return OK, f"{came.stream.arrivals.rate_hz():.1f} Hz, {came.camera}"


def silence_s(stream: StreamMonitor, active_since_s: float) -> float:
    """Seconds without a message, counted from activation at most."""
    active_s, silent_s = time.monotonic() - active_since_s, stream.arrivals.seconds_since()
    return active_s if silent_s is None else min(active_s, silent_s)


def reliability_word(reliable: bool | None) -> str | None:
    """How a subscription listens, in words; None where there is none."""
    return {None: None, True: "reliable", False: "best effort"}[reliable]


def gap_message(stream: StreamMonitor, what: str) -> str:
    """Which messages of the last ten seconds are missing, where they went and what helps; empty if too few are."""
    came, lost, skipped = stream.arrivals.recent(), stream.lost.recent(), stream.skipped.recent()
    if lost > MISSING_SHARE * (came + lost):
        remedy = RELIABLE_REMEDY if stream.reliable else BEST_EFFORT_REMEDY
        return f"{lost} of {came + lost} {what} on '{stream.topic}' were lost between its publisher and here; {remedy}"
    if skipped > MISSING_SHARE * (came + skipped):
        return (
            f"the stamps on '{stream.topic}' have gaps: {skipped} of {came + skipped} {what} were never published; "
            "look at the camera's driver (exposure time, USB bandwidth, CPU load)"
        )
    return ""


def silence_message(came: InputStatus, silent_s: float) -> str:
    """Which topic is silent, for how long, and what may be wrong."""
    lost = came.stream.lost.recent()
    if came.other_transport:
        wanted = "raw" if came.stream.topic.endswith("/compressed") else "compressed"
        advice = f"but somebody publishes '{came.other_transport}'; set image_transport: {wanted}"
    elif came.stream.publishers == 0:
        advice = "nobody publishes it; remap the image topic or start the camera"
    elif lost:
        advice = f"{lost} in the last ten seconds were lost on the way; {BEST_EFFORT_REMEDY}"
    elif came.frames_in == 0:
        advice = "none arrived; compare the quality of service of both ends, and ROS_DOMAIN_ID"
    else:
        advice = "the source stopped"
    return (
        f"no image on '{came.stream.topic}' for {silent_s:.0f} s ({came.frames_in} so far, "
        f"{came.stream.publishers} publishers): {advice}"
    )


def window_part(status: NodeStatus, config: PomatoConfig) -> tuple[bytes, str, Values]:
    """How full the window is."""
    frames, size = status.scene.frames_in_window, config.window.window_size
    budget = status.scene.budget
    values = {
        "frames": frames,
        "window_size": size,
        "mode": config.window.mode,
        "resets": status.engine.resets,
        "budget": budget.summary,
        "left_out": status.scene.left_out,
    }
    if status.scene.state == TrackingState.WARMING.value:
        return WARN, f"warming up {frames}/{size}", values
    if budget.state is BudgetState.EXCEEDED:
        return WARN, f"steps take longer than max_latency_ms; {budget.summary}", values
    return OK, f"{frames}/{size} frames", values


def inference_part(engine: EngineStatus, max_rate_hz: float) -> tuple[bytes, str, Values]:
    """What the engine did and how long it took."""
    stage_ms = {
        stage: engine.stages[stage].percentile_ms(50) if stage in engine.stages else None
        for stage in ("preprocess", "model", "scene")
    }
    values = {
        "steps": engine.steps,
        "rate_hz": engine.rate.rate_hz(),
        "step_ms_p50": engine.step.percentile_ms(50),
        "step_ms_p95": engine.step.percentile_ms(95),
        **{f"{stage}_ms": milliseconds for stage, milliseconds in stage_ms.items()},
        "errors": engine.errors,
        "last_error": engine.last_error,
        "out_of_memory": engine.out_of_memory,
        "worker_restarts": engine.worker_restarts,
    }
    busy_s = 0.0 if engine.busy_since_s is None else time.monotonic() - engine.busy_since_s
    if busy_s > STUCK_S:
        return ERROR, f"a step has been running for {busy_s:.0f} s; if it does not end, restart the node", values
    if engine.error_is_news:
        return ERROR, f"step failed: {engine.last_error}", values
    if 0.0 < max_rate_hz < SLOW_RATE_HZ:
        return WARN, f"max_rate_hz {max_rate_hz:.3g} allows one step in {1.0 / max_rate_hz:.3g} s", values
    return OK, f"{engine.steps} steps, {engine.rate.rate_hz():.2f} Hz", values


def output_part(status: NodeStatus) -> tuple[bytes, str, Values]:
    """What went out and how late it was."""
    output = status.output
    values = {
        "topics": " ".join(output.topics_with_subscribers),
        "messages_ms": output.messages.percentile_ms(50),
        "latency_ms": output.latency.last_ms(),
        "latency_ms_p50": output.latency.percentile_ms(50),
        "latency_ms_p95": output.latency.percentile_ms(95),
        "age_ms": output.age_ms,
        "tf_sent": output.tf_sent,
        "tf_refused": output.tf_refused,
    }
    if not output.tf_available:
        return WARN, "tf2_msgs is not installed: no TF is sent or heard; install ros-<distro>-tf2-msgs", values
    clock = clock_message(output.age_ms, use_sim_time=output.ros_time_is_simulated)
    if clock:
        return WARN, clock, values
    latency = output.latency.percentile_ms(50)
    message = (
        "nothing sent yet" if latency is None else f"{len(output.topics_with_subscribers)} topics, {latency:.0f} ms"
    )
    return OK, message, values


def clock_message(age_ms: float | None, *, use_sim_time: bool) -> str:
    """Why the images' stamps and this node's clock do not belong together; empty where they do."""
    age_s = 0.0 if age_ms is None else age_ms * 1e-3
    clock = "/clock (use_sim_time)" if use_sim_time else "this machine's clock"
    if -FUTURE_S <= age_s <= STALE_AGE_S:
        return ""
    apart = f"image stamps are {span_words(abs(age_s))} {'behind' if age_s > 0 else 'ahead of'} {clock}"
    if use_sim_time:
        return f"{apart}: is /clock published, and by the source of the images? Else set use_sim_time false"
    if abs(age_s) > FOREIGN_S:
        return (
            f"{apart}: a recording or a simulation? Play it with --clock and set use_sim_time true, or consumers that "
            "look up TF will wait in vain"
        )
    if age_s > 0:
        return f"{apart}: images queue up on their way, their source falls behind, or two machines' clocks differ (NTP)"
    return f"{apart}: two machines' clocks differ (use NTP or PTP), or the driver stamps the future"


def span_words(seconds: float) -> str:
    """A length of time in the unit that reads best."""
    for name, length in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {name}"
    return f"{seconds:.1f} s"


def tracking_part(status: NodeStatus, config: PomatoConfig) -> tuple[bytes, str, Values]:
    """Where the camera is, and whether to believe it."""
    scene, mount = status.scene, status.mount
    position = "" if scene.position_odom is None else " ".join(f"{value:.3f}" for value in scene.position_odom)
    values = {
        "state": scene.state,
        "inlier_ratio": scene.inlier_ratio,
        "position": position,
        "tracks": scene.tracks,
        "moving_share": scene.moving_share,
        "odom_frame": config.frames.odom_frame,
        "base_frame": config.frames.base_frame,
        "mount": mount.source,
        "mount_assumed": mount.assumed,
        "other_odometry": mount.other_odometry,
    }
    return (*tracking_verdict(status, config), values)


def tracking_verdict(status: NodeStatus, config: PomatoConfig) -> tuple[bytes, str]:
    """Level and message of the tracking."""
    silent_s = status.input.stream.arrivals.seconds_since()
    longest_s = max(config.robustness.lost_after_s, SILENT_INTERVALS * (status.input.stream.period_s or 0.0))
    if status.active_since_s is not None and silent_s is not None and silent_s > longest_s:
        return ERROR, f"lost: no frame for {silent_s:.1f} s"
    if status.active_since_s is None:
        return OK, f"nothing is tracked while {status.lifecycle}"
    if status.scene.state == TrackingState.LOST.value:
        return ERROR, "lost: no TF is sent, odometry's covariance says unknown; clouds go on in the camera's own frame"
    if status.scene.state == TrackingState.RECOVERING.value:
        return WARN, "recovering: found again; TF is sent, odometry's covariance holds the doubt of the time without"
    if status.mount.other_odometry:
        return WARN, status.mount.other_odometry
    if status.mount.warning:
        return WARN, status.mount.warning
    return OK, status.scene.state or "no step yet"


def scale_part(status: NodeStatus, config: PomatoConfig) -> tuple[bytes, str, Values]:
    """Where metres come from; metric only as far as the user gave the scale or a sensor tells it."""
    scene, source, came = status.scene, config.scale.scale_source, status.scale_input
    focal_from = {None: "", True: "camera_info", False: "estimated"}[scene.intrinsics_known]
    values = {
        "source": METRIC_SOURCES.get(status.engine.backend, source),
        "metres_per_unit": scene.metres_per_unit,
        "scale_std": scene.scale_std,
        "metric": "yes" if status.engine.backend in METRIC_SOURCES else metric_word(source, scene.scale_std),
        "input_topic": came.stream.topic,
        "input_publishers": came.stream.publishers if came.stream.topic else None,
        "input_messages": came.messages_in if came.stream.topic else None,
        "input_lost": came.stream.lost.total if came.stream.topic else None,
        "input_rate_hz": came.stream.arrivals.rate_hz() if came.stream.topic else None,
        "frames_with_input": came.used if came.stream.topic else None,
        "frames_without_input": came.unmatched if came.stream.topic else None,
        "input_dropped": came.drops.total() if came.stream.topic else None,
        "last_drop": came.last_drop,
        "focal_px": scene.focal_px,
        "focal_from": focal_from,
    }
    return (*scale_verdict(status, source), values)


def metric_word(source: str, scale_std: float | None) -> str:
    """Whether lengths are metres."""
    if source in ("model", "fixed"):
        return "user-given" if source == "fixed" else "no"
    return "yes" if scale_std is not None and scale_std < METRIC_STD else "not sure yet"


def scale_verdict(status: NodeStatus, source: str) -> tuple[bytes, str]:
    """Level and message of the scale: what keeps the sensor that was asked from telling it."""
    scene, came = status.scene, status.scale_input
    if status.engine.backend in METRIC_SOURCES:
        return OK, f"metres from {METRIC_SOURCES[status.engine.backend]}"
    metric = metric_word(source, scene.scale_std)
    stream = came.stream
    if not stream.topic or status.active_since_s is None:
        return OK, f"scale from {source}, metric: {metric}"
    silent_s = silence_s(stream, status.active_since_s)
    if silent_s > SILENCE_S:
        return (
            WARN,
            f"nothing on '{stream.topic}' for {silent_s:.0f} s ({stream.publishers} publishers): scale only held",
        )
    if came.drop_is_news:
        return WARN, f"no scale from a frame: {came.last_drop}"
    gaps = gap_message(stream, "messages")
    if gaps:
        return WARN, gaps
    if metric != "yes":
        return WARN, f"scale from {source}, metric: {metric}"
    return OK, f"scale from {source}, metric: yes, to {100 * (scene.scale_std or 0.0):.1f} %"


def model_part(status: NodeStatus) -> tuple[bytes, str, Values]:
    """Which weights run where."""
    facts = status.engine.model
    keys = DIAGNOSTIC_KEYS["model"][3:]
    values = {
        "lifecycle": status.lifecycle,
        "backend": status.engine.backend,
        "backend_reason": status.engine.backend_reason,
        **{key: facts.get(key) for key in keys},
    }
    if status.engine.model_error:
        return ERROR, status.engine.model_error, values
    if not facts:
        return STALE, f"no model loaded ({status.lifecycle})", values
    if status.engine.backend_hint:
        return WARN, status.engine.backend_hint, values
    because = f" ({status.engine.backend_reason})" if status.engine.backend_reason else ""
    if "checkpoint" not in facts:
        return OK, f"backend {facts.get('backend')}{because}", values
    weights = f"{Path(str(facts['checkpoint'])).name} on {facts['device']} in {facts['precision']}"
    return OK, f"{weights}{because}", values


def stream_values(sensor: SensorStatus, kinds: tuple[str, ...]) -> Values:
    """What came of a depth or right camera, and what of it was used."""
    stream = sensor.stream
    return {
        "topic": stream.topic,
        "publishers": stream.publishers,
        "reliability": reliability_word(stream.reliable),
        "received": stream.arrived,
        "lost": stream.lost.total,
        "rate_hz": stream.arrivals.rate_hz(),
        "paired": sensor.paired,
        "unpaired": sensor.unpaired,
        "last_unpaired": sensor.last_unpaired,
        "offset_ms": sensor.offset_ms(),
        "used_as": sensor.used_as,
        "dropped": sensor.drops.total(),
        **{f"dropped_{kind}": sensor.drops[kind] for kind in kinds},
        "last_drop": sensor.last_drop,
    }


def depth_part(status: NodeStatus) -> tuple[bytes, str, Values]:
    """What the depth camera of the backend rgbd gives."""
    sensor = status.depth
    share = sensor.facts.get("depth_valid_share") if sensor.stream.topic else None
    values = {**stream_values(sensor, DEPTH_DROPS), "valid_share": share}
    return (*sensor_verdict(status, sensor, "depth images"), values)


def right_part(status: NodeStatus) -> tuple[bytes, str, Values]:
    """What the right camera of the backend stereo gives, and signs that the pair is unsound."""
    sensor = status.right
    facts = sensor.facts if sensor.stream.topic else {}
    faults = {name: facts.get(f"stereo_{name}") for name in STEREO_REMEDIES}
    values = {
        **stream_values(sensor, RIGHT_DROPS),
        "baseline_m": sensor.baseline_m,
        "valid_share": facts.get("depth_valid_share"),
        "matched_share": facts.get("stereo_matched_share"),
        "vertical_offset_px": facts.get("stereo_vertical_offset_px"),
        "vertical_spread_px": facts.get("stereo_vertical_spread_px"),
        **{name: None if present is None else bool(present) for name, present in faults.items()},
    }
    level, message = sensor_verdict(status, sensor, "right images")
    fault = next((name for name, present in faults.items() if present), "")
    if level == OK and fault:
        return WARN, f"the pair is {fault}: {STEREO_REMEDIES[fault]}", values
    return level, message, values


def sensor_verdict(status: NodeStatus, sensor: SensorStatus, what: str) -> tuple[bytes, str]:
    """Level and message of a depth or right camera."""
    stream = sensor.stream
    if not stream.topic or status.active_since_s is None:
        return OK, f"no {what} are used by backend {status.engine.backend or 'none'}"
    silent_s = silence_s(stream, status.active_since_s)
    if silent_s > max(SILENCE_S, SILENT_INTERVALS * (stream.period_s or 0.0)):
        return WARN, (
            f"no {what} on '{stream.topic}' for {silent_s:.0f} s ({stream.publishers} publishers): start the sensor, "
            "or remap the topic; until then poses come from images alone"
        )
    if sensor.drop_is_news:
        return WARN, f"one of the {what} was not used: {sensor.last_drop}"
    if stream.arrivals.recent() and sensor.last_unpaired and not sensor.pairs.recent():
        return WARN, f"no image has found its {what}: {sensor.last_unpaired}"
    gaps = gap_message(stream, what)
    if gaps:
        return WARN, gaps
    return OK, f"{stream.arrivals.rate_hz():.1f} Hz, {sensor.paired} paired, {sensor.used_as or 'none used yet'}"
