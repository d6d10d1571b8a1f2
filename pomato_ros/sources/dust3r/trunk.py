"""The trunk that the whole family shares: one encoder, decoders that read each other, and a table of heads."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pomato_ros.config import NetworkConfig
from pomato_ros.errors import ConfigError
from pomato_ros.sources.dust3r.attention import NORM_EPS, DecoderBlock, EncoderBlock
from pomato_ros.sources.dust3r.heads import Head, HeadSpec, Maps, WindowMaps
from pomato_ros.sources.dust3r.position import RotaryTables, code_of, rotary_of
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction

THREE_MAPS = {1: ("points_1", "conf_1"), 2: ("points_2", "conf_2"), 3: ("points_match", "conf_match")}
Grid = tuple[int, int]  # rows and columns of patches
# takes a view, 0 or 1, and logits (p, heads, n, m) of its queries over the other view's keys
AttentionWatch = Callable[[int, Tensor], None]


class PatchEmbedding(nn.Module):
    """Image patches -> tokens, row by row."""

    def __init__(self, patch_size: int, dim: int) -> None:
        """Square patches of ``patch_size`` pixels."""
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, n, c)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Trunk(nn.Module):
    """Encoder and decoders of DUSt3R; a network of the family adds its heads. Parameter names are the official ones.

    Images are RGB in [-1, 1], (b, 3, h, w), h and w multiples of the patch size.

    Attributes:
        HEADS: what is evaluated for a pair, in the order of its maps; everything else about heads follows from it.
        SYMMETRIC: one decoder serves both views (Flow4R), so that swapped images give swapped outputs.
        OUTPUT_RULES: what the constructor call in an official checkpoint may say of the heads, the only kind built.
    """

    HEADS: tuple[HeadSpec, ...]
    SYMMETRIC: ClassVar[bool] = False
    OUTPUT_RULES: ClassVar[Mapping[str, Any]] = {
        "head_type": "dpt",
        "output_mode": "pts3d",
        "depth_mode": ("exp", -math.inf, math.inf),
        "conf_mode": ("exp", 1, math.inf),
    }

    def __init__(self, config: NetworkConfig) -> None:
        """Build an untrained trunk of ``config``."""
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
        if not self.SYMMETRIC:
            self.dec_blocks2 = self._decoder_blocks()
        self.dec_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    @classmethod
    def described_entries(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Entries of the config that an official checkpoint says otherwise than by their names.

        Args:
            values: keywords of its constructor call.
            tensors: its weights.

        Raises:
            ConfigError: it describes heads that this package does not build.
        """
        for name, ours in cls.OUTPUT_RULES.items():
            if values.get(name, ours) != ours:
                raise ConfigError(f"expected {name}={ours!r}, got {values[name]!r}; this package builds no such head")
        return {}

    @classmethod
    def adapt_weights(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a related official network as this one's; CroCo has one decoder, which both views start with."""
        if cls.SYMMETRIC or any(name.startswith("dec_blocks2.") for name in tensors):
            return dict(tensors)
        return {**tensors, **copied(tensors, "dec_blocks.", "dec_blocks2.")}

    def _decoder_blocks(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            [
                DecoderBlock(config.dec_embed_dim, config.dec_num_heads, config.mlp_ratio, config.relative_values)
                for _ in range(config.dec_depth)
            ]
        )

    def head(self, spec: HeadSpec) -> Head:
        """The module of an entry of :attr:`HEADS`."""
        module = self.get_submodule(spec.module)
        if not isinstance(module, Head):
            raise TypeError(f"expected a Head at {spec.module}, got {type(module).__name__}")
        return module

    @property
    def kept_depths(self) -> tuple[int, ...]:
        """Depths of the token lists that any head reads, ascending, with 0, the encoder's output."""
        return tuple(sorted({0, *(depth for spec in self.HEADS for depth in self.head(spec).hooks)}))

    def width_at(self, depth: int) -> int:
        """Channels of the tokens at a depth."""
        return self.config.dec_embed_dim if depth else self.config.enc_embed_dim

    def grid_of(self, images: Tensor) -> Grid:
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

    def decode(
        self,
        tokens_1: Tensor,
        tokens_2: Tensor,
        grid_hw: Grid,
        grid_2_hw: Grid | None = None,
        watch: AttentionWatch | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Encoder tokens of P pairs -> for each view the list the heads read.

        Index 0 is the encoder's output (p, n, enc_embed_dim), index l the output of block l (p, n, dec_embed_dim), the
        last one normalised. Block l of one view reads the other view's output of block l - 1.

        Args:
            tokens_1: (p, n, enc_embed_dim) of view 1.
            tokens_2: (p, m, enc_embed_dim) of view 2.
            grid_hw: of view 1.
            grid_2_hw: of view 2, where the two images differ in size.
            watch: is given the cross-attention logits of every block, see :data:`AttentionWatch`.
        """
        watch_1, watch_2 = (None if watch is None else partial(watch, view) for view in (0, 1))
        size = self.config.dec_embed_dim // self.config.dec_num_heads
        rotary_1 = self.rotary(grid_hw, size, tokens_1.device)
        rotary_2 = self.rotary(grid_2_hw, size, tokens_1.device) if grid_2_hw else rotary_1
        lists: tuple[list[Tensor], list[Tensor]] = ([tokens_1], [tokens_2])
        x_1, x_2 = self.decoder_embed(tokens_1), self.decoder_embed(tokens_2)
        second = self.dec_blocks if self.SYMMETRIC else self.dec_blocks2
        for block_1, block_2 in zip(self.dec_blocks, second, strict=True):
            x_1, x_2 = (
                block_1(x_1, x_2, rotary_1, rotary_2, watch_1),
                block_2(x_2, x_1, rotary_2, rotary_1, watch_2),
            )
            lists[0].append(x_1)
            lists[1].append(x_2)
        for tokens in lists:
            tokens[-1] = self.dec_norm(tokens[-1])
        return lists

    def predict_maps(
        self, tokens_1: Tensor, tokens_2: Tensor, grid_hw: Grid, frames: int = 1, grid_2_hw: Grid | None = None
    ) -> Maps:
        """Encoder tokens of P = b * ``frames`` pairs, in window order -> the maps of every head, P rows each.

        ``grid_2_hw``: of view 2, where the two images differ in size.
        """
        lists = self.decode(tokens_1, tokens_2, grid_hw, grid_2_hw)
        grids = grid_hw, grid_2_hw or grid_hw
        found: Maps = {}
        for spec in self.HEADS:
            found |= zip(spec.maps, self.head(spec)(lists[spec.view], grids[spec.view], frames), strict=True)
        return found

    def pair_maps(self, view_1: Tensor, view_2: Tensor) -> Maps:
        """Images of P pairs, (p, 3, h, w) each and of two sizes if need be -> the maps of every head."""
        grids = self.grid_of(view_1), self.grid_of(view_2)
        if grids[0] == grids[1]:
            tokens_1, tokens_2 = self.encode(torch.cat((view_1, view_2))).chunk(2)
        else:
            tokens_1, tokens_2 = self.encode(view_1), self.encode(view_2)
        return self.predict_maps(tokens_1, tokens_2, grids[0], 1, grids[1])

    def own_wanted(self, wanted: Wanted) -> Wanted:
        """The heads of this network that give what is ``wanted`` of a :class:`PairPrediction`'s three maps."""
        return wanted

    def prediction(self, found: WindowMaps, wanted: Wanted) -> WindowPrediction:
        """This network's maps as POMATO's three for both pair orders, which is how every reader knows the family.

        Args:
            found: at least what :meth:`own_wanted` asks for.
            wanted: which of the three are read; the others have no rows.
        """
        orders = []
        for own, other, heads in (
            (found.from_key, found.to_key, wanted.from_key_heads),
            (found.to_key, found.from_key, wanted.to_key_heads),
        ):
            maps: Maps = {}
            for number, names in THREE_MAPS.items():
                parts = self.three_maps(number, own, other) if number in heads else no_rows(own)
                maps |= zip(names, parts, strict=True)
            orders.append(PairPrediction(**maps))
        return WindowPrediction(found.key, orders[0], orders[1], found.slots)

    def three_maps(self, number: int, own: Maps, other: Maps) -> tuple[Tensor, Tensor]:
        """Points and confidence of X^{1,1} (1), X^{2,1} (2) or X_m^{2,1} (3) of the pairs of one order.

        Args:
            number: which.
            own: maps of that order.
            other: maps of the same pairs the other way round.
        """
        raise NotImplementedError

    def rotary(self, grid_hw: Grid, head_dim: int, device: torch.device) -> RotaryTables:
        """Tables for a grid of patches."""
        return rotary_of(grid_hw, head_dim, self.config.rope_base, device)


def no_rows(maps: Maps) -> tuple[Tensor, Tensor]:
    """Points and confidence of no pair, on the size and device of ``maps``."""
    like = maps["points_1"][:0]
    return like, like[..., 0]


def copied(tensors: Mapping[str, Tensor], begin: str, other: str) -> dict[str, Tensor]:
    """Copies of the tensors whose names start with ``begin``, under names that start with ``other``."""
    return {name.replace(begin, other, 1): value.clone() for name, value in tensors.items() if name.startswith(begin)}


def initialise(network: Trunk, generator: torch.Generator) -> None:
    """Weights to train from nothing, drawn from ``generator``.

    | parameter | start |
    |---|---|
    | linear and patch projection | Xavier uniform, zero bias; patches 1.7 times that |
    | last linear of a trunk's branch | a quarter of that, or what all tokens share soon drowns what each has seen |
    | convolutions of the heads | normal with variance 1 / inputs, He's 2 / inputs after a ReLU; zero bias |
    | second convolution of a residual unit | zero, so that depth of the head does not multiply what comes in |
    | last layer of a head | as the head's own ``begin`` says: 0.3 of He normal, points along the optical axis |
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
    for module in network.modules():
        if isinstance(module, Head):
            module.begin()
