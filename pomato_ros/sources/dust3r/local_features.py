"""MASt3R's head: DUSt3R's pointmap head with an MLP beside it that gives every pixel a descriptor."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.dpt_head import PointmapHead, activate
from pomato_ros.sources.dust3r.heads import PATCH_SIZE_PX, EarlyModules, TokenList
from pomato_ros.sources.dust3r.temporal import pick_slots

POINTMAP_CHANNELS = 4


class PatchFeatures(nn.Module):
    """Two linear layers with an exact GELU between: a token -> the values of its patch's pixels."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        """Widths of the three layers."""
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, inputs) -> (b, n, outputs)."""
        return self.fc2(F.gelu(self.fc1(tokens)))


class DescriptorHead(PointmapHead):
    """MASt3R's ``catmlp+dpt``: points, confidence, descriptor and the descriptor's confidence of every pixel.

    The MLP reads the encoder's tokens beside the decoder's last ones; its outputs are spread over each patch by pixel
    shuffle: channel c of the pixel (dy, dx) in a patch is its value 256 c + 16 dy + dx.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``."""
        super().__init__(config)
        width = config.enc_embed_dim + config.dec_embed_dim
        local_channels = config.desc_dim + config.two_confs
        hidden = config.desc_hidden_dim or 4 * width
        self.head_local_features = PatchFeatures(width, hidden, local_channels * PATCH_SIZE_PX**2)
        self.channels = POINTMAP_CHANNELS + local_channels
        self._desc_dim, self._desc_conf_min, self._two_confs = config.desc_dim, config.desc_conf_min, config.two_confs

    def raw(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """(b, 4 + desc_dim + 1, h, w); with a ``stride`` the pointmap is enlarged, descriptors keep every pixel."""
        pointmap = super().raw(tokens, grid_hw, frames, stride, slots, prepared)
        if stride > 1:
            pointmap = F.interpolate(pointmap, scale_factor=stride, mode="bilinear", align_corners=True)
        ends = [pick_slots(tokens[depth], frames, slots) for depth in (self.hooks[0], self.hooks[-1])]
        patches = self.head_local_features(torch.cat(ends, dim=-1)).transpose(1, 2).unflatten(-1, grid_hw)
        return torch.cat((pointmap, F.pixel_shuffle(patches, PATCH_SIZE_PX)), dim=1)

    def maps_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """(b, c, h, w) -> points (b, h, w, 3), confidence, unit descriptors (b, h, w, d), their confidence (b, h, w).

        Without ``two_confs`` the last one is the confidence of the points.
        """
        points, conf = activate(raw[:, :POINTMAP_CHANNELS])
        local = raw[:, POINTMAP_CHANNELS:].float().permute(0, 2, 3, 1)
        desc = local[..., : self._desc_dim]
        desc = desc / torch.linalg.vector_norm(desc, dim=-1, keepdim=True)
        if not self._two_confs:
            return points, conf, desc, conf
        return points, conf, desc, self._desc_conf_min + local[..., self._desc_dim].exp()
