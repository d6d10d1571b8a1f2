"""EuRoC MAV: camera path of the rectified left camera, every second frame."""

from functools import partial

from pomato_ros.datasets.papers.recorded import sensor_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol

PROTOCOL = Protocol(
    layout="euroc",
    title="EuRoC",
    find=partial(sensor_sequences, layout="euroc"),
    stride=2,
    poses=True,
    source="no published rules for pointmap networks: ATE after Sim(3)",
)
