"""The POMATO network on one screen: shared encoder, two decoders that read each other, three pointmap heads."""

import torch
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.attention import NORM_EPS, DecoderBlock, EncoderBlock
from pomato_ros.sources.dust3r.dpt_head import PointmapHead
from pomato_ros.sources.dust3r.position import RotaryTables, code_of, rotary_of
from pomato_ros.structures import PairPrediction


class PatchEmbedding(nn.Module):
    """Image patches -> tokens, row by row."""

    def __init__(self, patch_size: int, dim: int) -> None:
        """Square patches of ``patch_size`` pixels."""
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, n, c)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Pomato(nn.Module):
    """POMATO, pairwise or temporal (``config.temporal_length > 0``); parameter names are the official ones.

    Images are RGB in [-1, 1], (b, 3, h, w), h and w multiples of the patch size. All pairs of one call share a size.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained network; motion modules start as the identity."""
        super().__init__()
        self.config = config
        dim = config.dec_embed_dim
        self.patch_embed = PatchEmbedding(config.patch_size, config.enc_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))  # in official checkpoints; unused here
        self.enc_blocks = nn.ModuleList(
            [
                EncoderBlock(config.enc_embed_dim, config.enc_num_heads, config.mlp_ratio)
                for _ in range(config.enc_depth)
            ]
        )
        self.enc_norm = nn.LayerNorm(config.enc_embed_dim, eps=NORM_EPS)
        self.decoder_embed = nn.Linear(config.enc_embed_dim, dim)
        self.dec_blocks = self._decoder_blocks()
        self.dec_blocks2 = self._decoder_blocks()
        self.dec_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.downstream_head1 = PointmapHead(config)
        self.downstream_head2 = PointmapHead(config)
        self.downstream_head3 = PointmapHead(config)

    def _decoder_blocks(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            [
                DecoderBlock(config.dec_embed_dim, config.dec_num_heads, config.mlp_ratio, config.relative_values)
                for _ in range(config.dec_depth)
            ]
        )

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of patches; an image that is not a whole number of patches is an error."""
        height, width = images.shape[-2:]
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"image size must be a multiple of {patch} px, got {width}x{height}; crop or resize it first "
                "(pomato_ros.sources.dust3r.preprocess does)"
            )
        return height // patch, width // patch

    def encode(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) -> tokens (b, n, enc_embed_dim), each image on its own."""
        grid = self.grid_of(images)
        rotary = self.rotary(grid, self.config.enc_embed_dim // self.config.enc_num_heads, images.device)
        tokens = self.patch_embed(images)
        if self.config.position_code:
            code = code_of(grid, self.config.enc_embed_dim, self.config.rope_base, images.device)
            tokens = tokens + (self.config.position_code * code).to(tokens.dtype)
        for block in self.enc_blocks:
            tokens = block(tokens, rotary)
        return self.enc_norm(tokens)

    def decode(self, tokens_1: Tensor, tokens_2: Tensor, grid_hw: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
        """Encoder tokens of P pairs -> for each view the list the heads read.

        Index 0 is the encoder's output (p, n, enc_embed_dim), index l the output of block l (p, n, dec_embed_dim), the
        last one normalised. Block l of one view reads the other view's output of block l - 1.
        """
        rotary = self.rotary(grid_hw, self.config.dec_embed_dim // self.config.dec_num_heads, tokens_1.device)
        lists: tuple[list[Tensor], list[Tensor]] = ([tokens_1], [tokens_2])
        x_1, x_2 = self.decoder_embed(tokens_1), self.decoder_embed(tokens_2)
        for block_1, block_2 in zip(self.dec_blocks, self.dec_blocks2, strict=True):
            x_1, x_2 = block_1(x_1, x_2, rotary), block_2(x_2, x_1, rotary)
            lists[0].append(x_1)
            lists[1].append(x_2)
        for tokens in lists:
            tokens[-1] = self.dec_norm(tokens[-1])
        return lists

    def predict(self, tokens_1: Tensor, tokens_2: Tensor, grid_hw: tuple[int, int], frames: int = 1) -> PairPrediction:
        """Encoder tokens of P = b * ``frames`` pairs, in window order -> all three heads."""
        list_1, list_2 = self.decode(tokens_1, tokens_2, grid_hw)
        points_1, conf_1 = self.downstream_head1(list_1, grid_hw, frames)
        points_2, conf_2 = self.downstream_head2(list_2, grid_hw, frames)
        points_match, conf_match = self.downstream_head3(list_2, grid_hw, frames)
        return PairPrediction(points_1, conf_1, points_2, conf_2, points_match, conf_match)

    def forward(self, view_1: Tensor, view_2: Tensor) -> PairPrediction:
        """Images of P pairs, each (p, 3, h, w), each pair a window of its own -> all three heads."""
        if view_1.shape != view_2.shape:
            raise ValueError(f"both views must have one shape, got {tuple(view_1.shape)} and {tuple(view_2.shape)}")
        tokens_1, tokens_2 = self.encode(torch.cat((view_1, view_2))).chunk(2)
        return self.predict(tokens_1, tokens_2, self.grid_of(view_1))

    def rotary(self, grid_hw: tuple[int, int], head_dim: int, device: torch.device) -> RotaryTables:
        """Tables for a grid of patches."""
        return rotary_of(grid_hw, head_dim, self.config.rope_base, device)


def initialise(network: Pomato, generator: torch.Generator) -> None:
    """Weights to train from nothing, drawn from ``generator``.

    | parameter | start |
    |---|---|
    | linear and patch projection | Xavier uniform, zero bias; patches 1.7 times that |
    | last linear of a trunk's branch | a quarter of that, or what all tokens share soon drowns what each has seen |
    | convolutions of the heads | normal with variance 1 / inputs, He's 2 / inputs after a ReLU; zero bias |
    | second convolution of a residual unit | zero, so that depth of the head does not multiply what comes in |
    | last convolution of a head | 0.3 of He normal; its bias looks along the optical axis |
    | output projection of motion modules | zero, so that a window starts as independent pairs |
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.startswith(("enc_blocks.", "dec_blocks")) and name.endswith((".proj", ".fc2")):
                module.weight.data.mul_(0.25)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # a transposed convolution whose stride is its kernel reads each input once
            inputs = module.in_channels if isinstance(module, nn.ConvTranspose2d) else module.weight[0].numel()
            gain = 2.0 if name.endswith(("conv1", "dpt.head.4")) else 1.0
            nn.init.normal_(module.weight, 0.0, (gain / inputs) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if name.endswith(("conv2", "temporal_transformer.proj_out")):
            nn.init.zeros_(module.weight)
    patches = network.patch_embed.proj.weight.view(network.config.enc_embed_dim, -1)
    nn.init.xavier_uniform_(patches, gain=1.7, generator=generator)
    for head in (network.downstream_head1, network.downstream_head2, network.downstream_head3):
        weight, bias = head.dpt.head[4].parameters()
        with torch.no_grad():
            weight.mul_(0.3)
            bias.copy_(torch.tensor([0.0, 0.0, 0.7, 0.0]))
