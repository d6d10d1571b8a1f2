"""What a head of the family is: whose tokens it reads, what it gives, and the table that lists a network's heads."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pomato_ros.sources.dust3r.prediction import row_among
from pomato_ros.sources.dust3r.temporal import Prepared

EarlyModules = tuple[Prepared, Prepared]  # of the first two motion modules, which read single frames' tokens
TokenList = Sequence[Tensor] | Mapping[int, Tensor]  # by depth; of a mapping only the depths that a head reads
PATCH_SIZE_PX = 16  # side of the square that a token stands for; heads enlarge their grids by as much
Maps = dict[str, Tensor]  # outputs of a network's heads by name, one row for each pair


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One evaluation of a head: the only place that says which weights read which view.

    Attributes:
        number: as in :class:`pomato_ros.sources.dust3r.prediction.Wanted`.
        module: the network's submodule; two entries may name the same one.
        view: 0 or 1, the view of the pair whose tokens it reads.
        maps: the names of its outputs, in the order in which :meth:`Head.maps_of` gives them.
    """

    number: int
    module: str
    view: int
    maps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WindowMaps:
    """Maps of both pair orders of a window against its key frame, one row for each of some frames or for all.

    ``from_key``: view 1 = frame t, view 2 = key. ``to_key``: view 1 = key, view 2 = frame t. Maps that nobody asked for
    have no rows.
    """

    key: int
    from_key: Maps
    to_key: Maps
    slots: tuple[int, ...] | None = None  # the window's frames that rows belong to; None: all, in order

    def row_of(self, slot: int) -> int:
        """The row of a frame of the window.

        Raises:
            ValueError: the frame was not asked for.
        """
        return row_among(self.slots, slot)


class Head(nn.Module, ABC):
    """Decoder tokens of one view -> raw output of each pixel -> maps.

    Attributes:
        hooks: depths whose tokens it reads, ascending; 0 is the encoder's output.
        channels: of its raw output.
    """

    hooks: tuple[int, ...]
    channels: int

    @property
    def is_temporal(self) -> bool:
        """Whether frames of a window see each other in it."""
        return False

    @abstractmethod
    def raw(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> Tensor:
        """Output before any activation (b, c, h / stride, w / stride), of each frame or of the frames ``slots``."""

    @abstractmethod
    def maps_of(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Raw output (b, c, h, w) -> the head's maps, (b, h, w) or (b, h, w, d) each, in fp32."""

    def prepare(self, tokens: TokenList, grid_hw: tuple[int, int], at: Sequence[int]) -> EarlyModules:
        """What a temporal head makes of single frames at the slots ``at``; :meth:`raw` may be given it."""
        raise NotImplementedError("this head has no motion modules")

    def begin(self) -> None:
        """Set what the usual start of :func:`pomato_ros.sources.dust3r.trunk.initialise` leaves unsuitable."""

    def forward(
        self,
        tokens: TokenList,
        grid_hw: tuple[int, int],
        frames: int,
        stride: int = 1,
        slots: Sequence[int] | None = None,
        prepared: EarlyModules | None = None,
    ) -> tuple[Tensor, ...]:
        """Decoder's token list -> maps, of every ``stride``-th pixel.

        One row for each frame of each window, or for those in ``slots``.
        """
        return self.maps_of(self.raw(tokens, grid_hw, frames, stride, slots, prepared))


def points_of(vector: Tensor) -> Tensor:
    """Raw vectors v (..., 3) -> points ``v / |v| * (exp(|v|) - 1)``, DUSt3R's depth mode exp."""
    length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
    return vector / length.clamp(min=1e-8) * torch.expm1(length)
