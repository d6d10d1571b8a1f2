"""D²USt3R's flow head: RAFT's recurrent updates on a correlation volume made of the decoder's cross-attention.

The paper names the parts and leaves sizes open; here they are RAFT's: hidden and context width 128, radius 4, four
levels, 12 iterations, convex up-sampling by the patch size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.heads import PATCH_SIZE_PX, EarlyModules, Head, TokenList
from pomato_ros.sources.dust3r.recurrent_flow import look_up, pyramid, upsample_convexly
from pomato_ros.sources.dust3r.temporal import pick_slots

LEVELS, RADIUS, ITERATIONS = 4, 4, 12
LOGIT_SHARE = 0.25  # of the up-sampling's logits, which balances their gradients
FLOW_CHANNELS, INFO_CHANNELS = 2, 4


class GruPass(nn.Module):
    """A convolutional GRU whose gates see one kernel."""

    def __init__(self, hidden: int, inputs: int, kernel: tuple[int, int], padding: tuple[int, int]) -> None:
        """Widths of the state and of what it reads; shape of the kernel."""
        super().__init__()
        self.update = nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding)
        self.reset = nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding)
        self.candidate = nn.Conv2d(hidden + inputs, hidden, kernel, padding=padding)

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        """State (b, hidden, h, w) and input (b, inputs, h, w) -> the next state."""
        both = torch.cat((state, x), dim=1)
        share = self.update(both).sigmoid()
        new = self.candidate(torch.cat((self.reset(both).sigmoid() * state, x), dim=1)).tanh()
        return (1 - share) * state + share * new


class SeparableGru(nn.Module):
    """A convolutional GRU whose gates look along rows, then along columns."""

    def __init__(self, hidden: int, inputs: int) -> None:
        """Widths of the state and of what it reads."""
        super().__init__()
        self.passes = nn.ModuleList(
            GruPass(hidden, inputs, kernel, padding) for kernel, padding in (((1, 5), (0, 2)), ((5, 1), (2, 0)))
        )

    def forward(self, state: Tensor, x: Tensor) -> Tensor:
        """State (b, hidden, h, w) and input (b, inputs, h, w) -> the next state."""
        for one in self.passes:
            state = one(state, x)
        return state


class FlowUpdate(nn.Module):
    """One iteration: correlation and flow so far -> the next state, and what is to be added to the flow."""

    def __init__(self, width: int) -> None:
        """``width`` of state and context."""
        super().__init__()
        window = (2 * RADIUS + 1) ** 2 * LEVELS
        self.of_correlation = nn.Sequential(nn.Conv2d(window, 2 * width, 1), nn.ReLU())
        self.of_flow = nn.Sequential(nn.Conv2d(FLOW_CHANNELS, width, 7, padding=3), nn.ReLU())
        self.join = nn.Sequential(nn.Conv2d(3 * width, width - FLOW_CHANNELS, 3, padding=1), nn.ReLU())
        self.gru = SeparableGru(width, 2 * width)
        self.change = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * width, FLOW_CHANNELS, 3, padding=1)
        )

    def forward(self, state: Tensor, context: Tensor, read: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """State and context (b, width, h, w), look-up and flow -> next state, change of flow (b, 2, h, w)."""
        joined = self.join(torch.cat((self.of_correlation(read), self.of_flow(flow)), dim=1))
        state = self.gru(state, torch.cat((context, joined, flow), dim=1))
        return state, self.change(state)


class FlowHead(Head):
    """Optical flow to the other view, and the mixture of Laplaces that its errors follow.

    It reads the last tokens of its view as context and, at the depth beyond the last block, the correlation of its
    patches with the other view's.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Build for ``config``; its width is that of the DPT heads' last layers."""
        super().__init__()
        width = config.dpt_last_dim
        self.hooks = (config.dec_depth, config.dec_depth + 1)
        self.channels = FLOW_CHANNELS + INFO_CHANNELS
        self.context = nn.Conv2d(config.dec_embed_dim, 2 * width, 1)
        self.update = FlowUpdate(width)
        self.fine_shares = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * width, 9 * PATCH_SIZE_PX**2, 1)
        )
        self.info = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(2 * width, INFO_CHANNELS, 3, padding=1)
        )

    def raw(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """(b, 6, h, w): flow in px and the mixture's four values, every pixel whatever ``stride`` is."""
        last, correlation = (pick_slots(tokens[depth], frames, slots) for depth in self.hooks)
        if correlation.shape[-1] != grid_hw[0] * grid_hw[1]:
            raise ValueError("the flow head needs two images of one size; crop or resize them to the same one")
        state, context = self.context(last.transpose(1, 2).unflatten(-1, grid_hw)).chunk(2, dim=1)
        state, context = state.tanh(), context.relu()
        levels = pyramid(correlation.float().unflatten(-1, grid_hw).unflatten(1, grid_hw), LEVELS)
        home = patch_places(grid_hw, levels[0])
        flow = torch.zeros(len(last), FLOW_CHANNELS, *grid_hw, dtype=home.dtype, device=home.device)
        for _ in range(ITERATIONS):
            flow = flow.detach()  # as in RAFT: an iteration learns its own change only
            read = look_up(levels, home + flow, RADIUS)
            missing = (LEVELS - len(levels)) * (2 * RADIUS + 1) ** 2  # of images too small for all levels
            state, change = self.update(state, context, F.pad(read, (0, 0, 0, 0, 0, missing)), flow)
            flow = flow + change
        fine = upsample_convexly(flow, LOGIT_SHARE * self.fine_shares(state), PATCH_SIZE_PX)
        info = F.interpolate(self.info(state), scale_factor=PATCH_SIZE_PX, mode="bilinear", align_corners=False)
        return torch.cat((fine, info), dim=1)

    def maps_of(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(b, 6, h, w) -> flow (b, h, w, 2) in px, the mixture's logits and log spreads (b, h, w, 4)."""
        flow, info = raw.float().permute(0, 2, 3, 1).split((FLOW_CHANNELS, INFO_CHANNELS), dim=-1)
        return flow, info


def patch_places(grid_hw: tuple[int, int], like: Tensor) -> Tensor:
    """(1, 2, h, w) x, y of every patch."""
    y, x = torch.meshgrid(
        torch.arange(grid_hw[0], dtype=like.dtype, device=like.device),
        torch.arange(grid_hw[1], dtype=like.dtype, device=like.device),
        indexing="ij",
    )
    return torch.stack((x, y))[None]
