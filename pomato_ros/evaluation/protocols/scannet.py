"""ScanNet, static rooms: every third frame, the first 90 of them (MonST3R)."""

from pomato_ros.datasets.papers.scannet import find_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="scannet",
    title="ScanNet",
    find=find_sequences,
    stride=3,
    count=90,
    poses=True,
    published=(PublishedRow("LASER, windows of 20", ate_m=0.031),),
    source="MonST3R's evaluation; row: LASER",
)
