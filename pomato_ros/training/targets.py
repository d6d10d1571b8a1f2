"""The truth that a pair of frames is taught with, of rendered and of recorded clips alike."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.synthetic.clip import Clip


@dataclass(frozen=True, slots=True)
class Targets:
    """Truth of P pairs (view 1, view 2), metres; names as in :class:`pomato_ros.structures.PairPrediction`.

    Points are zero (and ``moving`` False) where they are not valid; rendered scenes are valid everywhere.
    """

    points_1: Tensor  # (p, h, w, 3)
    points_2: Tensor  # (p, h, w, 3)
    points_match: Tensor  # (p, h, w, 3)
    moving: Tensor  # (p, h, w) bool: pixels of view 2 whose point moved between the two times
    valid_1: Tensor  # (p, h, w) bool: of points_1
    valid_2: Tensor  # (p, h, w) bool: of points_2
    valid_match: Tensor  # (p, h, w) bool: of points_match and moving; nowhere but where valid_2 is
    patch_matches: Tensor  # (p, gh, gw, gh, gw): share of each patch of view 2 that is seen in each patch of view 1

    def to(self, device: torch.device) -> "Targets":
        """The same on another device."""
        return Targets(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


def pair_targets(clip: Clip | RecordedClip, view_1: int, view_2: int, patch_px: int) -> Targets:
    """Truth of one pair, without the leading axis."""
    if isinstance(clip, RecordedClip):
        truth = clip.pair(view_1, view_2)
        known = {item.name: getattr(truth, item.name) for item in fields(Targets) if item.name != "patch_matches"}
        return Targets(**known, patch_matches=share_patches(truth.pixels_match, truth.seen, patch_px))
    points_match = clip.points_matched(view_2, view_1)
    pixels = clip.pixels_matched(view_2, view_1, points_match)
    seen = clip.visible(view_2, view_1, points_match)
    everywhere = torch.ones_like(seen)
    return Targets(
        points_1=clip.points_camera(view_1),
        points_2=clip.points_transferred(view_2, view_1),
        points_match=points_match,
        moving=clip.moving_mask(view_2, view_1),
        valid_1=everywhere,
        valid_2=everywhere,
        valid_match=everywhere,
        patch_matches=share_patches(pixels, seen, patch_px),
    )


def share_patches(pixels: Tensor, seen: Tensor, patch_px: int) -> Tensor:
    """(gh, gw, gh, gw): which share of a patch of view 2 is seen in which patch of view 1; what is hidden, none.

    ``pixels``: (h, w, 2) x, y in view 1 of what each pixel of view 2 sees; ``seen``: (h, w) bool, the only ones read.
    """
    height, width = seen.shape
    rows, columns = height // patch_px, width // patch_px
    patch = torch.arange(rows).repeat_interleave(patch_px)[:, None] * columns
    here = (patch + torch.arange(columns).repeat_interleave(patch_px))[seen]
    x, y = pixels[seen].round().long().unbind(-1)
    there = (y // patch_px) * columns + x // patch_px
    counts = torch.bincount(here * (rows * columns) + there, minlength=(rows * columns) ** 2)
    return counts.view(rows, columns, rows, columns) / patch_px**2


def stack_targets(rows: list[Targets]) -> Targets:
    """Rows to a batch."""
    return Targets(**{item.name: torch.stack([getattr(row, item.name) for row in rows]) for item in fields(Targets)})


def mirrored(targets: Targets) -> Targets:
    """What a mirrored image sees (left and right exchanged)."""
    sign = torch.tensor([-1.0, 1.0, 1.0])
    points = {name: getattr(targets, name).flip(-2) * sign for name in ("points_1", "points_2", "points_match")}
    masks = {name: getattr(targets, name).flip(-1) for name in ("moving", "valid_1", "valid_2", "valid_match")}
    return Targets(**points, **masks, patch_matches=targets.patch_matches.flip((-3, -1)))


def thinned(targets: Targets, stride: int) -> Targets:
    """Truth at the pixels that a head without its last upsamplings speaks of: corners stay corners."""
    if stride == 1:
        return targets
    height, width = targets.moving.shape[-2:]
    rows = torch.linspace(0, height - 1, height // stride).round().long()
    columns = torch.linspace(0, width - 1, width // stride).round().long()
    maps = [item.name for item in fields(Targets) if item.name != "patch_matches"]
    return replace(targets, **{name: getattr(targets, name)[:, rows][:, :, columns] for name in maps})
