"""DAVIS-16 validation: region similarity J, without the first and the last frame of a sequence."""

from pomato_ros.datasets.papers.davis import find_sequences
from pomato_ros.evaluation.protocols.protocol import Protocol, PublishedRow

PROTOCOL = Protocol(
    layout="davis",
    title="DAVIS-16",
    find=find_sequences,
    masks=True,
    published=(
        PublishedRow("OCLR, flow only", davis_j=0.720),
        PublishedRow("EM, flow only", davis_j=0.693),
        PublishedRow("VGGT4D", davis_j=0.621),
        PublishedRow("Easi3R", davis_j=0.577),
        PublishedRow("MonST3R", davis_j=0.409),
    ),
    source="the benchmark's own measure; rows from the papers named",
)
