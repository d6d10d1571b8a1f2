"""7-Scenes: depth and camera path, every frame."""

from functools import partial

from pomato_ros.datasets.papers.recorded import sensor_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol

PROTOCOL = Protocol(
    layout="seven_scenes",
    title="7-Scenes",
    find=partial(sensor_sequences, layout="seven_scenes"),
    max_depth_m=10.0,
    depth=True,
    poses=True,
    source="no published rules for video: ATE after Sim(3), depth scaled over the sequence",
)
