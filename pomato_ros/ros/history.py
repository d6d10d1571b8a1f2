"""What the node remembers of past steps: where the base was, and where each live track went."""

from collections import deque
from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import PoseStamped

from pomato_ros.ros.perception import StepResult
from pomato_ros.structures import PoseArray, TrackSet


class History:
    """The trajectory and the trails of the live tracks, in odom; written by the worker, read by services."""

    def __init__(self, path_max: int, trail_length: int) -> None:
        """Keep that many poses, and that many positions of each track."""
        self._trajectory: deque[tuple[int, PoseArray]] = deque(maxlen=path_max)
        self._path: deque[PoseStamped] = deque(maxlen=path_max)
        self._not_in_path: deque[tuple[int, PoseArray]] = deque(maxlen=path_max)
        self._trails: dict[int, deque[np.ndarray]] = {}
        self._trail_length = trail_length
        self.newest: StepResult | None = None

    def clear(self) -> None:
        """Forget everything."""
        self._trajectory.clear()
        self._path.clear()
        self._not_in_path.clear()
        self._trails = {}
        self.newest = None

    def add(self, result: StepResult) -> None:
        """Take in one step."""
        self.newest = result
        if not result.odometry.lost:
            self._trajectory.append((result.odometry.stamp_ns, result.odometry.odom_from_base))
            self._not_in_path.append(self._trajectory[-1])
        self._extend_trails(result.scene.tracks, result.odom_from_world)

    def trajectory(self) -> list[tuple[int, PoseArray]]:
        """Stamps (ns) and odom <- base (4, 4), oldest first."""
        return list(self._trajectory)

    def path(self, build: Callable[[int, PoseArray], PoseStamped]) -> list[PoseStamped]:
        """The trajectory as messages; ``build`` makes each from its stamp (ns) and pose, once."""
        while self._not_in_path:
            self._path.append(build(*self._not_in_path.popleft()))
        return list(self._path)

    def trails(self) -> dict[int, list[np.ndarray]]:
        """Positions in odom of each live track, oldest first."""
        return {track_id: list(positions) for track_id, positions in self._trails.items()}

    def _extend_trails(self, tracks: TrackSet, odom_from_world: PoseArray) -> None:
        positions = tracks.positions_world @ odom_from_world[:3, :3].T + odom_from_world[:3, 3]
        trails = {}
        for track_id, position in zip(tracks.ids.tolist(), positions, strict=True):
            trail = self._trails.get(track_id, deque(maxlen=self._trail_length))
            trail.append(position)
            trails[track_id] = trail
        self._trails = trails
