"""Dynamic Replica, test split: depth and camera paths."""

from pomato_ros.datasets.papers.clips import dynamic_replica_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol

PROTOCOL = Protocol(
    layout="dynamic_replica",
    title="Dynamic Replica",
    find=dynamic_replica_sequences,
    depth=True,
    poses=True,
    source="every frame, depth under 80 m",
)
