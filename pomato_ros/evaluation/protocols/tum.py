"""TUM RGB-D dynamics: every third frame, the first 40 of them (POMATO)."""

from functools import partial

from pomato_ros.datasets.papers.recorded import sensor_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="tum",
    title="TUM dynamics",
    find=partial(sensor_sequences, layout="tum_rgbd"),
    stride=3,
    count=40,
    poses=True,
    published=(
        PublishedRow("POMATO", 0.020, 0.010, 0.509),
        PublishedRow("LASER, windows of 20", ate_m=0.016),
    ),
    source="POMATO's evaluation scripts; rows: POMATO (ICCV 2025), LASER",
)
