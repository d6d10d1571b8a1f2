"""What follows from D²USt3R's time-aligned pointmaps, and masks of occlusion and motion from optical flow.

X^{2,1} of a mover is where its surface was at time 1, so corresponding pixels of two views coincide in 3-D. Depth and
movers of image 2 at its own time come from the swapped pass, X^{2,2}.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TINY_DEPTH = 1e-6
OCCLUSION_PX, MOTION_PX = 1.5, 1.5  # thresholds t and tau, which the paper leaves open


def pixel_places(height: int, width: int, like: Tensor) -> Tensor:
    """(h, w, 2) x, y of every pixel."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=like.dtype, device=like.device),
        torch.arange(width, dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1)


def project_with(points: Tensor, intrinsics: Tensor) -> Tensor:
    """Pixels (..., h, w, 2) of points (..., h, w, 3) in a camera K (..., 3, 3); NaN behind it."""
    imaged = (intrinsics[..., None, None, :, :] @ points[..., None])[..., 0]
    depth = imaged[..., 2:]
    return torch.where(depth > TINY_DEPTH, imaged[..., :2] / depth.clamp(min=TINY_DEPTH), torch.nan)


def flow_by_projection(points_in_other: Tensor, intrinsics: Tensor) -> Tensor:
    """Flow (..., h, w, 2) of image 2's pixels to image 1, moving or not: ``pi(K1 X^{2,1}) - i``, px.

    Args:
        points_in_other: X^{2,1} (..., h, w, 3), time-aligned.
        intrinsics: K1 (..., 3, 3).
    """
    height, width = points_in_other.shape[-3:-1]
    return project_with(points_in_other, intrinsics) - pixel_places(height, width, points_in_other)


def pass_scale(points: Tensor, swapped: Tensor, still: Tensor) -> Tensor:
    """(...) unit of one pass in that of the other: the median ratio of lengths of the same, resting points.

    Args:
        points: (..., h, w, 3) in the pass that gives the unit, from any one camera.
        swapped: the same points in the other pass, from the same camera.
        still: (..., h, w) pixels to compare.
    """
    ratio = points.norm(dim=-1) / swapped.norm(dim=-1).clamp(min=TINY_DEPTH)
    return torch.where(still, ratio, torch.nan).flatten(-2).nanmedian(-1).values


def scene_flow_of(points_2: Tensor, points_2_in_1: Tensor, camera_1_from_2: Tensor, scale: Tensor) -> Tensor:
    """(..., h, w, 3) motion of image 2's points from time 1 to time 2 in camera 1: ``T12 (s X^{2,2}) - X^{2,1}``.

    It is zero where nothing moves, which makes a mask without any head.

    Args:
        points_2: X^{2,2} (..., h, w, 3) of the swapped pass.
        points_2_in_1: X^{2,1} (..., h, w, 3), time-aligned.
        camera_1_from_2: T12 (..., 4, 4), translation in the unit of X^{2,1}.
        scale: s (...), the unit of X^{2,2} in that of X^{2,1}.
    """
    rotation, translation = camera_1_from_2[..., None, None, :3, :3], camera_1_from_2[..., None, None, :3, 3]
    at_time_2 = (rotation @ (scale[..., None, None, None] * points_2)[..., None])[..., 0] + translation
    return at_time_2 - points_2_in_1


def sample_at(maps: Tensor, pixels_xy: Tensor, mode: str = "bilinear") -> Tensor:
    """Maps (b, h, w, d) at pixels (b, h', w', 2) -> (b, h', w', d); the border's value outside."""
    size = torch.tensor((maps.shape[2], maps.shape[1]), dtype=pixels_xy.dtype, device=pixels_xy.device)
    grid = torch.nan_to_num((2 * pixels_xy + 1) / size - 1, nan=-2.0)
    read = F.grid_sample(maps.permute(0, 3, 1, 2), grid, mode=mode, padding_mode="border", align_corners=False)
    return read.permute(0, 2, 3, 1)


def inside_image(pixels_xy: Tensor, height: int, width: int) -> Tensor:
    """(...) whether pixels (..., 2) lie on the image; NaN does not."""
    limit = torch.tensor((width - 0.5, height - 0.5), dtype=pixels_xy.dtype, device=pixels_xy.device)
    return ((pixels_xy >= -0.5) & (pixels_xy <= limit)).all(-1)


def occlusion_mask(forth: Tensor, back: Tensor, threshold_px: float = OCCLUSION_PX) -> Tensor:
    """(b, h, w) pixels whose flow there and back does not return (4), or leaves the image: ``|p1' - p1| > t``.

    ``forth``, ``back``: optical flow (b, h, w, 2) from image 1 to 2 and from 2 to 1, px.
    """
    height, width = forth.shape[1:3]
    there = pixel_places(height, width, forth) + forth
    away = (forth + sample_at(back, there)).norm(dim=-1)
    return ~(away <= threshold_px) | ~inside_image(there, height, width)


def camera_flow(depth: Tensor, intrinsics: Tensor, other_from_own: Tensor) -> Tensor:
    """(b, h, w, 2) flow of resting points: ``pi(D K R K^-1 p + K T) - p``, px; NaN behind the other camera.

    Args:
        depth: D (b, h, w).
        intrinsics: K (b, 3, 3), of both images.
        other_from_own: (b, 4, 4) R and T.
    """
    height, width = depth.shape[1:]
    pixels = pixel_places(height, width, depth)
    homogeneous = torch.cat((pixels, torch.ones_like(pixels[..., :1])), dim=-1)
    rays = (torch.linalg.inv(intrinsics)[:, None, None] @ homogeneous[..., None])[..., 0]
    points = depth[..., None] * rays
    rotation, translation = other_from_own[:, None, None, :3, :3], other_from_own[:, None, None, :3, 3]
    return project_with((rotation @ points[..., None])[..., 0] + translation, intrinsics) - pixels


def moving_mask(of_camera: Tensor, flow: Tensor, threshold_px: float = MOTION_PX) -> Tensor:
    """(b, h, w) pixels whose flow is not the camera's: ``|f_cam - f| > tau``.

    The paper prints (5) with <, which marks what rests; all that follows it means what moves.
    """
    return (of_camera - flow).norm(dim=-1) > threshold_px
