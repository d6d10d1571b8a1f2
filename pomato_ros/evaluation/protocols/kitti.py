"""KITTI depth, validation drives: the first 110 frames of each, depth under 80 m (MonST3R)."""

from pomato_ros.datasets.papers.kitti_depth import find_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="kitti",
    title="KITTI depth",
    find=find_sequences,
    count=110,
    max_depth_m=80.0,
    depth=True,
    published=(
        PublishedRow("POMATO", depth_absrel=0.085, depth_delta1=0.933),
        PublishedRow("LASER, windows of 20", depth_absrel=0.054),
    ),
    source="MonST3R's evaluation; rows: POMATO (ICCV 2025), LASER",
)
