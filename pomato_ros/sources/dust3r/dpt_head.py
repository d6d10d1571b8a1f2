"""Dense prediction head: decoder tokens of one view -> pointmap and confidence, with optional motion modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.heads import EarlyModules, Head, TokenList, points_of
from pomato_ros.sources.dust3r.temporal import MotionModule, Prepared, pick_slots


@dataclass(frozen=True, slots=True)
class FusedFeatures:
    """What the rest of the head needs, which is done frame by frame."""

    path_3: Tensor  # (b, f, h/8, w/8), output of the third fusion
    layer_2: Tensor  # (b, f, h/8, w/8)
    layer_1: Tensor  # (b, f, h/4, w/4)


def upsample_twice(x: Tensor) -> Tensor:
    """Bilinear, corners aligned."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, plus the input."""

    def __init__(self, dim: int) -> None:
        """``dim`` channels."""
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> same."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Merge a coarser path with a finer layer and double the resolution."""

    def __init__(self, dim: int) -> None:
        """``dim`` channels."""
        super().__init__()
        self.out_conv = nn.Conv2d(dim, dim, 1)
        self.resConfUnit1 = ResidualUnit(dim)
        self.resConfUnit2 = ResidualUnit(dim)

    def forward(self, path: Tensor, layer: Tensor | None = None, upsample: bool = True) -> Tensor:
        """``path`` (b, c, h, w) and ``layer`` of the same size -> (b, c, 2h, 2w), or (b, c, h, w) not upsampled."""
        if layer is not None:
            path = path + self.resConfUnit1(layer)
        # a 1x1 convolution and an interpolation may change places, and before it there are a quarter of the pixels
        merged = self.out_conv(self.resConfUnit2(path))
        return upsample_twice(merged) if upsample else merged


class Scratch(nn.Module):
    """Projection of the four layers to one width, and the four fusions."""

    def __init__(self, layer_dims: Sequence[int], dim: int) -> None:
        """``layer_dims`` of the four layers, finest first."""
        super().__init__()
        for number, layer_dim in enumerate(layer_dims, start=1):
            self.add_module(f"layer{number}_rn", nn.Conv2d(layer_dim, dim, 3, padding=1, bias=False))
        # official checkpoints store these four weights under a second name too
        self.layer_rn = nn.ModuleList([self.get_submodule(f"layer{number}_rn") for number in range(1, 5)])
        self.refinenet1 = Fusion(dim)
        self.refinenet2 = Fusion(dim)
        self.refinenet3 = Fusion(dim)
        self.refinenet4 = Fusion(dim)


class DptNetwork(nn.Module):
    """The head's layers. Hooks, motion modules and sizes as in section 2 and 3 of the paper's supplement."""

    def __init__(self, config: NetworkConfig, channels: int = 4) -> None:
        """Build for the trunk and head sizes of ``config``, with so many output channels."""
        super().__init__()
        dims, dim, last = config.dpt_layer_dims, config.dpt_feature_dim, config.dpt_last_dim
        enc, dec = config.enc_embed_dim, config.dec_embed_dim
        self.hooks = config.hooks
        self.act_postprocess = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(enc, dims[0], 1), nn.ConvTranspose2d(dims[0], dims[0], 4, stride=4)),
                nn.Sequential(nn.Conv2d(dec, dims[1], 1), nn.ConvTranspose2d(dims[1], dims[1], 2, stride=2)),
                nn.Sequential(nn.Conv2d(dec, dims[2], 1)),
                nn.Sequential(nn.Conv2d(dec, dims[3], 1), nn.Conv2d(dims[3], dims[3], 3, stride=2, padding=1)),
            ]
        )
        self.scratch = Scratch(dims, dim)
        self.head = nn.Sequential(
            nn.Conv2d(dim, dim // 2, 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(dim // 2, last, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(last, channels, 1),
        )
        if config.temporal_length:
            self.motion_modules = nn.ModuleList(
                [
                    MotionModule(width, config.temporal_num_heads, config.temporal_length, config.group_norm_groups)
                    for width in (dec, dec, dim, dim)
                ]
            )

    @property
    def is_temporal(self) -> bool:
        """Whether frames of a window see each other."""
        return hasattr(self, "motion_modules")

    def over_time(
        self,
        number: int,
        x: Tensor,
        frames: int,
        slots: Sequence[int] | None = None,
        prepared: Prepared | None = None,
    ) -> Tensor:
        """Motion module ``number``, or nothing in a pairwise network or where ``frames`` is 0; then only ``slots``."""
        if self.is_temporal and frames:
            return self.motion_modules[number](x, frames, slots, prepared)
        return pick_slots(x, frames, slots)

    def prepare(self, tokens: TokenList, grid_hw: tuple[int, int], at: Sequence[int]) -> EarlyModules:
        """What the first two motion modules make of single frames at the slots ``at``; :meth:`fuse` may be given it."""
        deepest, before = (
            cast(MotionModule, self.motion_modules[number]).prepare(
                tokens[hook].transpose(1, 2).unflatten(-1, grid_hw), at
            )
            for number, hook in ((0, self.hooks[3]), (1, self.hooks[2]))
        )
        return deepest, before

    def fuse(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> FusedFeatures:
        """Everything up to the last motion module.

        ``tokens``: the decoder's list (index 0 = encoder output), each (b * frames, n, c), n = rows * columns of
        ``grid_hw``. The first motion module reads the deepest hook, the second the one before it.
        ``slots``: the frames of each window whose features are wanted, all by default; what only others need is left
        out.
        ``prepared``: what :meth:`prepare` made of these very tokens, where it is known already.
        """
        deepest, before = prepared or (None, None)
        if not self.is_temporal or not frames:  # nothing passes between frames
            tokens, slots = {hook: pick_slots(tokens[hook], frames, slots) for hook in self.hooks}, None
        fine = [pick_slots(tokens[hook], frames, slots) for hook in self.hooks[:2]]
        maps = [x.transpose(1, 2).unflatten(-1, grid_hw) for x in (*fine, *(tokens[hook] for hook in self.hooks[2:]))]
        maps[3] = self.over_time(0, maps[3], frames, prepared=deepest)
        maps[2] = self.over_time(1, maps[2], frames, prepared=before)
        layers = [
            project(postprocess(x))
            for project, postprocess, x in zip(self.scratch.layer_rn, self.act_postprocess, maps, strict=True)
        ]
        path_4 = self.scratch.refinenet4(layers[3])[..., : layers[2].shape[-2], : layers[2].shape[-1]]
        path_4 = self.over_time(2, path_4, frames)
        path_3 = self.over_time(3, self.scratch.refinenet3(path_4, layers[2]), frames, slots)
        return FusedFeatures(path_3=path_3, layer_2=layers[1], layer_1=layers[0])

    def finish(self, fused: FusedFeatures, stride: int = 1) -> Tensor:
        """The per-frame rest: -> raw output (b, channels, h / stride, w / stride).

        ``stride`` 2 or 4 leaves out the last upsampling or the last two; all layers take part whatever it is, so the
        same weights can learn on coarse pointmaps, where almost all of the time goes to the trunk.
        """
        path_2 = self.scratch.refinenet2(fused.path_3, fused.layer_2)
        path_1 = self.scratch.refinenet1(path_2, fused.layer_1, upsample=stride < 4)
        narrowed = self.head[0](path_1)
        return self.head[2:](self.head[1](narrowed) if stride < 2 else narrowed)

    def forward(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """Decoder's token list -> raw output (b * frames, channels, h / stride, w / stride), or of ``slots`` only."""
        return self.finish(self.fuse(tokens, grid_hw, frames, slots, prepared), stride)


class DptHead(Head):
    """A :class:`DptNetwork` under the name that official checkpoints give it; what its channels mean is left open."""

    def __init__(self, config: NetworkConfig, channels: int = 4) -> None:
        """Build for ``config``."""
        super().__init__()
        self.dpt = DptNetwork(config, channels)
        self.hooks, self.channels = config.hooks, channels

    @property
    def is_temporal(self) -> bool:
        """Whether it has motion modules."""
        return self.dpt.is_temporal

    def raw(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """As :class:`Head`."""
        return self.dpt(tokens, grid_hw, frames, stride, slots, prepared)

    def prepare(self, tokens: TokenList, grid_hw: tuple[int, int], at: Sequence[int]) -> EarlyModules:
        """As :class:`Head`."""
        return self.dpt.prepare(tokens, grid_hw, at)


class PointmapHead(DptHead):
    """Points and confidence: DUSt3R's head, and each of POMATO's three."""

    def maps_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """(b, 4, h, w) -> points (b, h, w, 3), confidence (b, h, w)."""
        return activate(raw)

    def begin(self) -> None:
        """Points begin near, along the optical axis."""
        weight, bias = self.dpt.head[4].parameters()
        with torch.no_grad():
            weight.mul_(0.3)
            bias.copy_(torch.tensor([0.0, 0.0, 0.7, 0.0]))


def activate(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Raw output (b, 4, h, w) -> points ``v / |v| * (exp(|v|) - 1)`` (b, h, w, 3), confidence ``1 + exp(c)`` > 1.

    Computed in fp32 whatever the network's precision.
    """
    raw = raw.float().permute(0, 2, 3, 1)
    return points_of(raw[..., :3]), 1 + raw[..., 3].exp()
