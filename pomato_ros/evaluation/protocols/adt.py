"""Aria Digital Twin in TAPVid-3D clips: points of the first frame over 12 frames (APD)."""

from pomato_ros.datasets.papers.tapvid3d import find_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="adt",
    title="Aria Digital Twin",
    find=find_sequences,
    count=12,
    tracks=True,
    published=(PublishedRow("POMATO, aligned to the truth axis by axis", apd=0.3157),),
    source="TAPVid-3D's measure, predictions rescaled by the median distance; row: POMATO (ICCV 2025)",
)
