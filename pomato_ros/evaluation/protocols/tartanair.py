"""TartanAir: depth and camera paths of every trajectory, all frames."""

from pomato_ros.datasets.papers.clips import tartanair_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol

PROTOCOL = Protocol(
    layout="tartanair",
    title="TartanAir",
    find=tartanair_sequences,
    depth=True,
    poses=True,
    source="no published rules: every frame, depth under 80 m",
)
