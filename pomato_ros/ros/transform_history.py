"""TF as it was at a time: each transform kept for ten seconds and interpolated, as tf2's buffer does (pip has none).

Poses are (4, 4) float64, ``a_from_b`` maps coordinates in frame b to frame a. Stamps are integer nanoseconds.
"""

import bisect
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Transform, TransformStamped

from pomato_ros.geometry.rigid import interpolate, invert
from pomato_ros.ros.conversions.poses import matrix_from_transform
from pomato_ros.ros.conversions.stamps import stamp_ns_from_time
from pomato_ros.ros.frames import is_rigid
from pomato_ros.structures import PoseArray

KEPT_NS = 10_000_000_000  # as tf2 does
MANY_LINKS = 500  # with so many, those that fell silent are let go when another comes: some nodes name frames anew
NAMED_FRAMES = 8  # so many of the frames that were heard are named where the one asked for is not among them
Link = tuple[str, str]  # parent, child
UNPLACED, UNUSABLE, UNMATCHED = "unplaced", "unusable", "unmatched"


class NoTransformError(LookupError):
    """A pose that TF does not tell; the text says between which frames, why, and what to do."""

    def __init__(self, kind: str, frames: Link, reason: str, *, heard: int | None = None) -> None:
        """Why there is none.

        Args:
            kind: UNPLACED (frames are not joined as they must be), UNUSABLE (values) or UNMATCHED (times).
            frames: between which.
            reason: for people.
            heard: what had been heard, where waiting for more may help.
        """
        super().__init__(reason)
        self.kind, self.frames, self.heard = kind, frames, heard


class TransformHistory:
    """Transforms of the last ten seconds between pairs of frames; put by the executor, found by the worker.

    Unlike in tf2, a frame may have two parents, as ``base_link`` has where two odometries send it; transforms that the
    node itself sends (``own``) never take part.
    """

    def __init__(self, own: Link | None = None) -> None:
        """``own``: parent and child of the transform that this node sends on /tf, if any."""
        self._own = own
        self._links: dict[Link, _Link] = {}
        self._condition = threading.Condition()
        self._in_vain: dict[Link, int] = {}  # between which frames a wait was in vain, and what had been heard by then

    def add(self, transforms: Sequence[TransformStamped], *, static: bool) -> int:
        """Keep what one message of /tf or /tf_static brought; how many of the transforms are of other nodes."""
        others = [one for one in transforms if not self._is_own((one.header.frame_id, one.child_frame_id))]
        with self._condition:
            for one in others:
                name, stamp_ns = (one.header.frame_id, one.child_frame_id), stamp_ns_from_time(one.header.stamp)
                link = self._links.get(name)
                if link is None or link.static != static:
                    if not self._has_room(stamp_ns):
                        continue
                    link = self._links[name] = _Link(static)
                link.add(stamp_ns, one.transform)
            self._condition.notify_all()
        return len(others)

    def clear_dynamic(self) -> None:
        """Time jumped: keep only the static transforms."""
        with self._condition:
            self._links = {name: link for name, link in self._links.items() if link.static}
            self._in_vain.clear()

    def moving_pose(self, target: str, source: str, stamp_ns: int, most_gap_ns: int, timeout_s: float) -> PoseArray:
        """Target <- source (4, 4) at a time, where something between the two frames moves.

        Waits for what may still come, but not again for what it waited for in vain.

        Args:
            target: name of the fixed frame.
            source: name of the frame that moves in it.
            stamp_ns: the time asked for.
            most_gap_ns: transforms farther apart are not joined by a screw.
            timeout_s: longest wait.

        Raises:
            NoTransformError: TF does not tell.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._condition:
            while True:
                try:
                    return self._pose(target, source, stamp_ns, most_gap_ns)
                except NoTransformError as error:
                    if error.heard is None or error.heard == self._in_vain.get(error.frames):
                        raise
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0.0:
                        self._in_vain[error.frames] = error.heard
                        raise
                    self._condition.wait(left_s)

    def _pose(self, target: str, source: str, stamp_ns: int, most_gap_ns: int) -> PoseArray:
        way = self._way(target, source, stamp_ns)
        if all(self._links[name].static for name, _ in way):
            raise NoTransformError(
                UNPLACED,
                (target, source),
                f"'{source}' never moves in '{target}': all TF between them is static; name the fixed frame of an "
                "odometry, for instance 'odom' of the wheels",
            )
        target_from_source = np.eye(4)
        with np.errstate(all="ignore"):
            for name, upwards in way:
                parent_from_child = self._links[name].pose(name, stamp_ns, most_gap_ns)
                target_from_source = (parent_from_child if upwards else invert(parent_from_child)) @ target_from_source
        if not is_rigid(target_from_source):
            reason = f"TF between '{target}' and '{source}' is no finite rigid transform; check who sends it"
            raise NoTransformError(UNUSABLE, (target, source), reason)
        return target_from_source

    def _way(self, target: str, source: str, stamp_ns: int) -> list[tuple[Link, bool]]:
        """The links from source to target, each with whether it is walked from child to parent."""
        recent = [name for name, link in self._links.items() if link.reaches(stamp_ns - KEPT_NS)]
        for names in (recent, list(self._links)):  # links that fell silent only where there is no other way
            way = shortest_way(names, target, source)
            if way is not None:
                return way
        if self._own is not None and shortest_way([*self._links, self._own], target, source) is not None:
            raise NoTransformError(
                UNPLACED,
                (target, source),
                f"'{target}' and '{source}' are joined only by TF '{self._own[0]}' -> '{self._own[1]}', which this "
                "node sends itself, so that it would be measured with itself; name the frame of another odometry, or "
                "set publish_tf false if another node sends that transform",
            )
        raise NoTransformError(
            UNPLACED,
            (target, source),
            f"TF does not join '{target}' with '{source}' (frames heard: {self._frames_heard()})",
            heard=len(self._links),
        )

    def _has_room(self, stamp_ns: int) -> bool:
        """Whether one more link can be kept, once those that fell silent are let go of where there are many."""
        if len(self._links) >= MANY_LINKS:
            self._links = {name: link for name, link in self._links.items() if link.reaches(stamp_ns - KEPT_NS)}
            self._in_vain.clear()
        return len(self._links) < MANY_LINKS

    def _is_own(self, name: Link) -> bool:
        """Whether this is what the node sends, whichever of the two frames is called parent."""
        return self._own is not None and set(name) == set(self._own)

    def _frames_heard(self) -> str:
        frames = sorted({frame for name in self._links for frame in name})
        more = ", ..." if len(frames) > NAMED_FRAMES else ""
        return ", ".join(frames[:NAMED_FRAMES]) + more if frames else "none"


class _Link:
    """The transforms of the last ten seconds between one pair of frames, by stamp."""

    def __init__(self, static: bool) -> None:
        self.static = static
        self._stamps_ns: list[int] = []
        self._transforms: list[Transform] = []
        self._old_ns: int | None = None  # the last stamp, if it was older than all that is kept

    def add(self, stamp_ns: int, transform: Transform) -> None:
        """Keep a transform in its place; one of a stamp that is there replaces it.

        One that is older than all that is kept is dropped, as in tf2, unless the next one goes on from it: time jumped.
        """
        stamps, transforms = self._stamps_ns, self._transforms
        if not self.static and stamps and stamp_ns < stamps[-1] - KEPT_NS:
            before, self._old_ns = self._old_ns, stamp_ns
            if before is None or not before < stamp_ns <= before + KEPT_NS:
                return
            stamps.clear()
            transforms.clear()
        self._old_ns = None
        if self.static:
            stamps.clear()
            transforms.clear()
        place = bisect.bisect_left(stamps, stamp_ns)
        if place < len(stamps) and stamps[place] == stamp_ns:
            transforms[place] = transform
            return
        stamps.insert(place, stamp_ns)
        transforms.insert(place, transform)
        too_old = bisect.bisect_left(stamps, stamps[-1] - KEPT_NS)
        del stamps[:too_old], transforms[:too_old]

    def reaches(self, stamp_ns: int) -> bool:
        """Whether it tells anything of this time or later."""
        return self.static or self._stamps_ns[-1] >= stamp_ns

    def pose(self, name: Link, stamp_ns: int, most_gap_ns: int) -> PoseArray:
        """Parent <- child (4, 4) at a time, on the screw between the transforms around it."""
        stamps = self._stamps_ns
        if self.static:
            return self._matrix(name, 0)
        last = bisect.bisect_left(stamps, stamp_ns)  # the first not before the time
        if last < len(stamps) and stamps[last] == stamp_ns:
            return self._matrix(name, last)
        what = f"TF '{name[0]}' -> '{name[1]}'"
        if last == len(stamps):
            late_s = (stamp_ns - stamps[-1]) * 1e-9
            reason = f"{what} ends {late_s:.3f} s before the image: it comes too late, or by another clock"
            raise NoTransformError(UNMATCHED, name, reason, heard=stamps[-1])
        if last == 0:
            early_s = (stamps[0] - stamp_ns) * 1e-9
            raise NoTransformError(UNMATCHED, name, f"{what} begins {early_s:.3f} s after the image")
        gap_ns = stamps[last] - stamps[last - 1]
        if gap_ns > most_gap_ns:
            reason = f"{what} has a gap of {gap_ns * 1e-9:.3f} s around the image, at most {most_gap_ns * 1e-9:.3f} s"
            raise NoTransformError(UNMATCHED, name, f"{reason} is bridged; send it more often")
        before, after = self._matrix(name, last - 1), self._matrix(name, last)
        return interpolate(before, after, (stamp_ns - stamps[last - 1]) / gap_ns)

    def _matrix(self, name: Link, place: int) -> PoseArray:
        """Made only now: of the hundreds of transforms a second on a busy robot few are asked for."""
        try:
            return matrix_from_transform(self._transforms[place])
        except ValueError as error:
            raise NoTransformError(UNUSABLE, name, f"TF '{name[0]}' -> '{name[1]}': {error}") from error


def shortest_way(links: list[Link], target: str, source: str) -> list[tuple[Link, bool]] | None:
    """The fewest links from source to target, each with whether it leads from child to parent; None without a way."""
    from_frame: dict[str, list[tuple[str, Link, bool]]] = {}
    for parent, child in links:
        from_frame.setdefault(child, []).append((parent, (parent, child), True))
        from_frame.setdefault(parent, []).append((child, (parent, child), False))
    ways: dict[str, list[tuple[Link, bool]]] = {source: []}
    waiting = deque([source])
    while waiting and target not in ways:
        frame = waiting.popleft()
        for neighbour, link, upwards in from_frame.get(frame, []):
            if neighbour not in ways:
                ways[neighbour] = [*ways[frame], (link, upwards)]
                waiting.append(neighbour)
    return ways.get(target)
