"""A rendered clip with its exact truth, for any pixel and any pair of frames."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.poses import invert

MOTION_FLOOR_M = 1e-4  # a point that went less far than this between two times did not move
DEPTH_TOLERANCE = 0.01  # share of the depth by which a visible point may miss the depth around its projection


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """Where some points of the scene are at every time of a clip."""

    points_world: Tensor  # (t, n, 3) float64 metres
    pixels: Tensor  # (t, n, 2) float32 x, y; NaN behind the camera
    visible: Tensor  # (t, n) bool: inside the image and not hidden


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames of one scene. Pixel centres are at integers; camera frames are optical; z of the world is up.

    Points of an instance move rigidly with ``world_from_object``; instance 0 is the static background.
    """

    images: Tensor  # (t, h, w, 3) uint8 RGB
    depth_m: Tensor  # (t, h, w) float32, along the optical axis, always finite
    world_from_camera: Tensor  # (t, 4, 4) float64
    intrinsics: Intrinsics
    instance: Tensor  # (t, h, w) int16, row of the object table
    world_from_object: Tensor  # (t, n_objects, 4, 4) float64
    stamps_ns: list[int]

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.stamps_ns)

    def points_camera(self, t: int) -> Tensor:
        """(h, w, 3) float32: the point each pixel of frame ``t`` sees, in camera ``t``, metres."""
        return self._rays() * self.depth_m[t, ..., None]

    def points_transferred(self, source: int, target: int) -> Tensor:
        """(h, w, 3) float32: what each pixel of ``source`` sees, as it is at that time, in camera ``target``."""
        return _apply(self._camera_motion(source, target), self.points_camera(source))

    def points_matched(self, source: int, target: int) -> Tensor:
        """(h, w, 3) float32: what each pixel of ``source`` sees, as it is at ``target``'s time, in camera ``target``.

        The pointmap matching X_m of the paper's eq. 2, with view 2 = source and view 1 = target.
        """
        points_source = self.points_camera(source)
        matched = _apply(self._camera_motion(source, target), points_source)
        for index in self._moved(source, target):
            pixels = self.instance[source] == index
            matched[pixels] = _apply(self._object_motion(index, source, target), points_source[pixels])
        return matched

    def moving_mask(self, source: int, target: int) -> Tensor:
        """(h, w) bool: pixels of ``source`` whose point is elsewhere in the world at ``target``'s time."""
        mask = torch.zeros(self.depth_m.shape[1:], dtype=torch.bool, device=self.depth_m.device)
        for index in self._moved(source, target):
            pixels = self.instance[source] == index
            world_motion = self.world_from_camera[target] @ self._object_motion(index, source, target)
            points = self.points_camera(source)[pixels].double()
            displacement = _apply(world_motion, points) - _apply(self.world_from_camera[source], points)
            mask[pixels] = displacement.norm(dim=-1) > MOTION_FLOOR_M
        return mask

    def moving(self, t: int) -> Tensor:
        """(h, w) bool: pixels of ``t`` whose point moves to or from a neighbouring frame of the clip."""
        mask = torch.zeros(self.depth_m.shape[1:], dtype=torch.bool, device=self.depth_m.device)
        for neighbour in (t - 1, t + 1):
            if 0 <= neighbour < len(self):
                mask |= self.moving_mask(t, neighbour)
        return mask

    def pixels_matched(self, source: int, target: int, points: Tensor | None = None) -> Tensor:
        """(h, w, 2) float32: x, y in ``target`` of what each pixel of ``source`` sees; NaN behind the camera.

        ``points``: what :meth:`points_matched` gives for the same two frames, where the caller has it already.
        """
        return self._project(self.points_matched(source, target) if points is None else points)

    def optical_flow(self, source: int, target: int) -> Tensor:
        """(h, w, 2) float32: motion in pixels from each pixel of ``source`` to ``target``; NaN behind the camera."""
        return self.pixels_matched(source, target) - self._pixel_grid()

    def visible(self, source: int, target: int, points: Tensor | None = None) -> Tensor:
        """(h, w) bool: what a pixel of ``source`` sees is inside the image of ``target`` and not hidden there.

        Not hidden means: among the four pixels around the projection, those of the same instance enclose its depth.
        ``points``: what :meth:`points_matched` gives for the same two frames, where the caller has it already.
        """
        points = self.points_matched(source, target) if points is None else points
        return self._seen(points, self.instance[source], target)

    def scene_flow(self, source: int, target: int) -> Tensor:
        """(h, w, 3) float32 metres: how far what each pixel of ``source`` sees goes until ``target``'s time.

        Along the axes of camera ``source``, which is held still: zero where nothing moves.
        """
        source_from_target = self._camera_motion(target, source)
        motion = torch.zeros_like(self.points_camera(source))
        for index in self._moved(source, target):
            pixels = self.instance[source] == index
            points = self.points_camera(source)[pixels].double()
            motion[pixels] = (
                _apply(source_from_target @ self._object_motion(index, source, target), points) - points
            ).float()
        return motion

    def tracks(self, frame: int, pixels: Tensor) -> Tracks:
        """What some pixels of ``frame`` see, followed through the whole clip, also where it is hidden or out of view.

        Args:
            frame: where the points are picked.
            pixels: (n, 2) integer x, y.
        """
        x, y = pixels.unbind(1)
        owner = self.instance[frame, y, x]
        points = _apply(self.world_from_camera[frame], self.points_camera(frame)[y, x].double())
        poses = self.world_from_object[:, owner.long()]
        world = _apply_each(poses @ invert(poses[frame]), points)
        camera = _apply_each(invert(self.world_from_camera)[:, None], world).float()
        seen = [self._seen(camera[t], owner, t) for t in range(len(self))]
        return Tracks(world, self._project(camera), torch.stack(seen))

    def _seen(self, points: Tensor, owner: Tensor, target: int) -> Tensor:
        """(...) bool: ``points`` (..., 3) in camera ``target``, of the instances ``owner`` (...), are visible there."""
        pixels = self._project(points)
        height, width = self.depth_m.shape[1:]
        inside = ((pixels >= -0.5) & (pixels < pixels.new_tensor([width - 0.5, height - 0.5]))).all(-1)
        corner = torch.where(inside[..., None], pixels, 0.0).floor().long()
        low = torch.full_like(pixels[..., 0], torch.inf)
        high = torch.full_like(pixels[..., 0], -torch.inf)
        for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
            x = (corner[..., 0] + right).clamp_(0, width - 1)
            y = (corner[..., 1] + down).clamp_(0, height - 1)
            same = self.instance[target, y, x] == owner
            depth = self.depth_m[target, y, x]
            low = torch.where(same, torch.minimum(low, depth), low)
            high = torch.where(same, torch.maximum(high, depth), high)
        slack = DEPTH_TOLERANCE * points[..., 2]
        return inside & (points[..., 2] > low - slack) & (points[..., 2] < high + slack)

    def _rays(self) -> Tensor:
        """(h, w, 3) float32 directions through the pixel centres with z = 1."""
        grid = self._pixel_grid().double()
        centre = grid.new_tensor([self.intrinsics.cx_px, self.intrinsics.cy_px])
        focal = grid.new_tensor([self.intrinsics.fx_px, self.intrinsics.fy_px])
        plane = (grid - centre) / focal
        return torch.cat((plane, torch.ones_like(plane[..., :1])), dim=-1).float()

    def _pixel_grid(self) -> Tensor:
        """(h, w, 2) float32: x, y of every pixel centre."""
        height, width = self.depth_m.shape[1:]
        rows, columns = (torch.arange(size, device=self.depth_m.device) for size in (height, width))
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack((x, y), dim=-1).float()

    def _project(self, points: Tensor) -> Tensor:
        """(..., 2) pixels of camera-frame ``points`` (..., 3); NaN behind the camera."""
        depth = torch.where(points[..., 2] > 0.0, points[..., 2], torch.nan)
        k = self.intrinsics
        return torch.stack((k.fx_px * points[..., 0] / depth + k.cx_px, k.fy_px * points[..., 1] / depth + k.cy_px), -1)

    def _camera_motion(self, source: int, target: int) -> Tensor:
        """(4, 4) float64 ``target_from_source`` of points at rest in the world."""
        return invert(self.world_from_camera[target]) @ self.world_from_camera[source]

    def _object_motion(self, index: int, source: int, target: int) -> Tensor:
        """(4, 4) float64: camera ``source`` to camera ``target`` for points fixed to one object."""
        poses = self.world_from_object[:, index]
        world_motion = poses[target] @ invert(poses[source])
        return invert(self.world_from_camera[target]) @ world_motion @ self.world_from_camera[source]

    def _moved(self, source: int, target: int) -> list[int]:
        """Rows of the object table whose pose differs between the two times."""
        differs = (self.world_from_object[source] != self.world_from_object[target]).any(-1).any(-1)
        return torch.nonzero(differs)[:, 0].tolist()


def _apply(b_from_a: Tensor, points: Tensor) -> Tensor:
    """Map points (..., 3) by a (4, 4) pose, in the points' precision."""
    matrix = b_from_a.to(points.dtype)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _apply_each(b_from_a: Tensor, points: Tensor) -> Tensor:
    """Map points (..., n, 3) by poses (..., n or 1, 4, 4), float64."""
    return (b_from_a[..., :3, :3] @ points[..., None])[..., 0] + b_from_a[..., :3, 3]
