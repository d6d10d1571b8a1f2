"""Bonn RGB-D dynamic, five sequences: frames 30 to 1130 in steps of 5, the first 40 of them (POMATO)."""

from functools import partial

from pomato_ros.datasets.papers.recorded import sensor_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="bonn",
    title="Bonn",
    find=partial(sensor_sequences, layout="bonn"),
    sequences=("balloon2", "crowd2", "crowd3", "person_tracking2", "synchronous"),
    start=30,
    stride=5,
    count=40,
    max_depth_m=70.0,
    depth=True,
    poses=True,
    published=(
        PublishedRow("POMATO", 0.037, 0.016, 1.782, 0.074, 0.961),
        PublishedRow("LASER, windows of 20", depth_absrel=0.048),
    ),
    source="POMATO's evaluation scripts; rows: POMATO (ICCV 2025), LASER",
)
