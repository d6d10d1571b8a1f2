"""PointOdyssey, test split: depth and camera paths."""

from pomato_ros.datasets.papers.clips import point_odyssey_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol

PROTOCOL = Protocol(
    layout="point_odyssey",
    title="PointOdyssey",
    find=point_odyssey_sequences,
    depth=True,
    poses=True,
    source="every frame, depth under 80 m",
)
