"""3-D tracks to TrackArray and to trails that RViz and Foxglove draw."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from geometry_msgs.msg import Point
from rclpy.duration import Duration
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from pomato_ros.msg import Track, TrackArray
from pomato_ros.ros.conversions.poses import point_message, vector_message
from pomato_ros.structures import PoseArray, TrackSet

GOLDEN_RATIO = 0.618033988749895
TRAIL_LIFETIME_NS = 5_000_000_000


def track_array_message(tracks: TrackSet, odom_from_world: PoseArray, header: Header) -> TrackArray:
    """Every live track in rising order of id, positions and velocities turned from world into the odometry frame."""
    positions = tracks.positions_world @ odom_from_world[:3, :3].T + odom_from_world[:3, 3]
    velocities = tracks.velocities_world @ odom_from_world[:3, :3].T
    return TrackArray(
        header=header,
        tracks=[track_message(tracks, row, positions[row], velocities[row]) for row in np.argsort(tracks.ids)],
    )


def track_message(tracks: TrackSet, row: np.intp, position: np.ndarray, velocity: np.ndarray) -> Track:
    """One row of a TrackSet."""
    return Track(
        id=int(tracks.ids[row]),
        position=point_message(position),
        velocity=vector_message(velocity),
        confidence=float(tracks.confidence[row]),
        visible=bool(tracks.visible[row]),
        dynamic=bool(tracks.dynamic[row]),
        age=int(tracks.age_frames[row]),
    )


def trail_markers(
    trails: Mapping[int, Sequence[np.ndarray]], dynamic_ids: set[int], header: Header, width_m: float
) -> MarkerArray:
    """Two line lists, moving and static trails, each point coloured by its track's id; replaces the last drawing.

    ``trails`` maps a track's id to its (3,) positions in ``header.frame_id``, oldest first.
    """
    moving = line_list(header, "moving", 0, 2.0 * width_m)
    static = line_list(header, "static", 1, width_m)
    for track_id, positions in trails.items():
        marker = moving if track_id in dynamic_ids else static
        append_trail(marker, positions, track_colour(track_id, bright=marker is moving))
    markers = [marker if marker.points else delete_marker(marker) for marker in (moving, static)]
    return MarkerArray(markers=markers)


def line_list(header: Header, namespace: str, marker_id: int, width_m: float) -> Marker:
    """An empty list of line segments."""
    marker = Marker(header=header, ns=namespace, id=marker_id, type=Marker.LINE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = float(width_m)
    marker.lifetime = Duration(nanoseconds=TRAIL_LIFETIME_NS).to_msg()
    return marker


def delete_marker(marker: Marker) -> Marker:
    """The message that removes what ``marker`` drew last time."""
    return Marker(header=marker.header, ns=marker.ns, id=marker.id, action=Marker.DELETE)


def append_trail(marker: Marker, positions: Sequence[np.ndarray], colour: ColorRGBA) -> None:
    """Add the segments between successive positions."""
    points: list[Point] = [point_message(position) for position in positions]
    for start, end in zip(points[:-1], points[1:], strict=True):
        marker.points.extend((start, end))
        marker.colors.extend((colour, colour))


def track_colour(track_id: int, *, bright: bool) -> ColorRGBA:
    """A colour that belongs to the id for ever; neighbours in id are far apart in hue."""
    red, green, blue = colorsys.hsv_to_rgb((track_id * GOLDEN_RATIO) % 1.0, 0.9 if bright else 0.35, 1.0)
    return ColorRGBA(r=float(red), g=float(green), b=float(blue), a=1.0 if bright else 0.5)
