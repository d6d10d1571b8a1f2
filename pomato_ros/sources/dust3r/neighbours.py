"""Exact nearest neighbours among the pixels of an image, by inner product or Euclidean distance, in batched torch.

On a GPU every query is compared with every pixel, in blocks that stay in the cache. On a CPU most pixels are ruled out
first. The image is cut into square tiles, and in each the values are a plane over the pixel's place, ``c + u g + v h``,
with residuals of at most r. No pixel of it has a larger product with q than

    q . c + m (|q . g| + |q . h|) + |q| r,

where m is the largest |u| and |v|, so only tiles are read whose bound reaches the best product found so far, and of
those only the quarters that reach it by their own bound, ``q . c + |q| r`` with their centre and radius. Smooth
descriptors leave a few pixels in a thousand; where too many remain, every pixel is compared. The result is the same
either way, up to the rounding of products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_PX, QUARTER_PX = 8, 4  # sides of a tile and of its quarters
QUERIES_AT_ONCE, PIXELS_AT_ONCE = 512, 2048  # of a product that stays in the cache
MOST_TILES_SHARE = 0.1  # of all tiles; where more remain, comparing every pixel is cheaper
SLACK = 4e-6  # of the largest product: rounding of bounds in fp32


class NeighbourIndex:
    """The pixels of one image, to be searched."""

    def __init__(self, values: Tensor, euclidean: bool = False) -> None:
        """``values`` (h, w, d) of each pixel.

        The nearest in Euclidean distance has the largest ``q . x - |x|^2 / 2``, a product with one more channel, here
        in float64.
        """
        if euclidean:
            values = values.double()
            values = torch.cat((values, -0.5 * values.square().sum(-1, keepdim=True)), dim=-1)
        self._euclidean = euclidean
        self._flat = values.flatten(0, 1).contiguous()
        self._tiled = values.device.type == "cpu"
        if self._tiled:
            self._cut(values)

    def nearest(self, queries: Tensor) -> Tensor:
        """(k, d) -> (k,) flat index x + w y of each query's nearest pixel, of equals the lowest."""
        if self._euclidean:
            queries = F.pad(queries.double(), (0, 1), value=1.0)
        if len(queries) == 0:
            return torch.zeros(0, dtype=torch.long, device=queries.device)
        if not self._tiled:
            return self._compare_all(queries)
        index = torch.cat([self._compare_tiles(some) for some in queries.split(QUERIES_AT_ONCE)])
        left = (index < 0).nonzero()[:, 0]
        if len(left):
            index[left] = self._compare_all(queries[left])
        return index

    def _cut(self, values: Tensor) -> None:
        """Tiles of four quarters; at the edges pixels are repeated, under their own indices."""
        height, width, _ = values.shape
        rows = torch.arange(-(-height // TILE_PX) * TILE_PX).clamp(max=height - 1)
        columns = torch.arange(-(-width // TILE_PX) * TILE_PX).clamp(max=width - 1)
        self._pixels = quarters(columns + width * rows[:, None])  # (tiles, 4, pixels of a quarter)
        places = torch.arange(TILE_PX, dtype=values.dtype) - 0.5 * (TILE_PX - 1)
        across = quarters(places.expand(TILE_PX, TILE_PX))[0, ..., None]
        down = quarters(places[:, None].expand(TILE_PX, TILE_PX))[0, ..., None]
        tiles = self._flat[self._pixels]
        centres = tiles.mean((1, 2))
        offsets = tiles - centres[:, None, None]
        slope_across, slope_down = ((offsets * u).sum((1, 2)) / u.square().sum() for u in (across, down))
        residuals = offsets - across * slope_across[:, None, None] - down * slope_down[:, None, None]
        self._planes = [part.T.contiguous() for part in (centres, slope_across, slope_down)]
        self._residuals = residuals.norm(dim=-1).amax((1, 2))
        self._quarters = tiles.flatten(0, 1)
        self._centres = self._quarters.mean(1)
        self._radii = (self._quarters - self._centres[:, None]).norm(dim=-1).amax(-1)
        self._largest = float(self._flat.norm(dim=-1).max())

    def _tile_bounds(self, queries: Tensor, lengths: Tensor) -> Tensor:
        """(k, tiles), see the head of this module."""
        bounds, tilt, other = (queries @ part for part in self._planes)
        tilt.abs_().add_(other.abs_())
        return bounds.add_(tilt, alpha=0.5 * (TILE_PX - 1)).addcmul_(lengths[:, None], self._residuals[None])

    def _compare_tiles(self, queries: Tensor) -> Tensor:
        """The tile of the largest bound sets what others must reach; then those, quarter by quarter.

        A query that too many tiles may hold the nearest of gets -1.
        """
        lengths = queries.norm(dim=-1)
        bounds = self._tile_bounds(queries, lengths)
        likely = self._quarters.unflatten(0, (-1, 4)).flatten(1, 2)[bounds.argmax(-1)]
        reach = torch.bmm(likely, queries[..., None])[..., 0].amax(-1) - SLACK * lengths * self._largest
        reached = bounds >= reach[:, None]
        many = reached.sum(-1, dtype=torch.int32) > MOST_TILES_SHARE * bounds.shape[1]
        index = self._read_tiles(queries, lengths, reach, reached & ~many[:, None])
        return index.masked_fill(many, -1)

    def _read_tiles(self, queries: Tensor, lengths: Tensor, reach: Tensor, reached: Tensor) -> Tensor:
        """The nearest pixel among the quarters of some tiles that each query reaches."""
        rows, tiles = reached.nonzero().unbind(-1)
        own = torch.bmm(self._centres.unflatten(0, (-1, 4))[tiles], queries[rows][..., None])[..., 0]
        own.addcmul_(lengths[rows][:, None], self._radii.unflatten(0, (-1, 4))[tiles])
        pairs, corner = (own >= reach[rows][:, None]).nonzero().unbind(-1)
        rows, where = rows[pairs], 4 * tiles[pairs] + corner
        values, places = torch.bmm(self._quarters[where], queries[rows][..., None])[..., 0].max(-1)
        return lowest_best(rows, values, self._pixels.flatten(0, 1)[where, places], len(queries))

    def _compare_all(self, queries: Tensor) -> Tensor:
        """Brute force: which block of pixels holds the nearest one, then which pixel of the block."""
        blocks = [block.T.contiguous() for block in self._flat.split(PIXELS_AT_ONCE)]
        holds = torch.cat(
            [
                torch.stack([(some @ block).amax(-1) for block in blocks], dim=-1).argmax(-1)
                for some in queries.split(QUERIES_AT_ONCE)
            ]
        )
        index = torch.zeros_like(holds)
        for number in holds.unique().tolist():
            some = (holds == number).nonzero()[:, 0]
            index[some] = PIXELS_AT_ONCE * number + (queries[some] @ blocks[number]).argmax(-1)
        return index


def quarters(grid: Tensor) -> Tensor:
    """(h, w) of whole tiles -> (tiles, 4, pixels of a quarter), each row by row."""
    split = grid.unflatten(1, (-1, 2, QUARTER_PX)).unflatten(0, (-1, 2, QUARTER_PX))
    return split.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3).flatten(0, 1)


def lowest_best(rows: Tensor, values: Tensor, pixels: Tensor, count: int) -> Tensor:
    """(count,) of each row's entries the pixel with the largest value, of equals the lowest."""
    best = values.new_full((count,), -torch.inf).scatter_reduce(0, rows, values, "amax")
    equal = values >= best[rows]
    none = pixels.new_full((count,), torch.iinfo(pixels.dtype).max)
    return none.scatter_reduce(0, rows[equal], pixels[equal], "amin")
