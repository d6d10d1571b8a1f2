"""Random numbers from one explicit generator, in the forms a scene is drawn with."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Range = tuple[float, float]


class Draw:
    """A seeded source of scene parameters; the same seed gives the same sequence on every machine."""

    def __init__(self, seed: int) -> None:
        """Start the sequence of ``seed``."""
        self.generator = torch.Generator().manual_seed(seed)

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def uniform(self, limits: Range) -> float:
        """Uniform between ``limits``."""
        return limits[0] + (limits[1] - limits[0]) * self.unit()

    def log_uniform(self, limits: Range) -> float:
        """Uniform in the logarithm between two positive ``limits``."""
        return math.exp(self.uniform((math.log(limits[0]), math.log(limits[1]))))

    def integer(self, limits: tuple[int, int]) -> int:
        """Uniform among the integers from ``limits[0]`` to ``limits[1]``, both included."""
        return int(torch.randint(limits[0], limits[1] + 1, (), generator=self.generator))

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return self.unit() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``, all equally likely."""
        return options[self.integer((0, len(options) - 1))]

    def weighted(self, weights: Sequence[float]) -> int:
        """Index of one of ``weights``, drawn in proportion to them."""
        return int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=self.generator))

    def vector(self, limits: Sequence[Range]) -> Tensor:
        """(n,) float64, entry i uniform between ``limits[i]``."""
        return torch.tensor([self.uniform(pair) for pair in limits], dtype=torch.float64)

    def values(self, *shape: int) -> Tensor:
        """float32 of ``shape``, uniform in [0, 1)."""
        return torch.rand(shape, generator=self.generator)

    def normals(self, *shape: int) -> Tensor:
        """float32 of ``shape``, standard normal."""
        return torch.randn(shape, generator=self.generator)

    def direction(self) -> Tensor:
        """(3,) float64 unit vector, uniform on the sphere."""
        vector = torch.randn(3, generator=self.generator, dtype=torch.float64)
        return vector / vector.norm()
