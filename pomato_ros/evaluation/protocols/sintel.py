"""MPI Sintel, the 14 sequences with movers that MonST3R scores: every frame, depth under 70 m."""

from pomato_ros.datasets.papers.sintel import find_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="sintel",
    title="Sintel",
    find=find_sequences,
    sequences=(
        "alley_2",
        "ambush_4",
        "ambush_5",
        "ambush_6",
        "cave_2",
        "cave_4",
        "market_2",
        "market_5",
        "market_6",
        "shaman_3",
        "sleeping_1",
        "sleeping_2",
        "temple_2",
        "temple_3",
    ),
    max_depth_m=70.0,
    depth=True,
    poses=True,
    published=(
        PublishedRow("POMATO", depth_absrel=0.416, depth_delta1=0.536),
        PublishedRow("LASER, windows of 20", ate_m=0.061, depth_absrel=0.247),
    ),
    source="MonST3R's evaluation; rows: POMATO (ICCV 2025), LASER",
)
