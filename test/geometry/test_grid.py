"""Pixel centres are integers, x comes first."""

import numpy as np
import torch

from pomato_ros.geometry.grid import pixel_grid, sample_bilinear


def test_grid_holds_x_then_y_of_every_pixel() -> None:
    grid = pixel_grid(3, 5)
    assert grid.shape == (3, 5, 2)
    np.testing.assert_array_equal(grid[2, 4], [4, 2])


def test_sampling_at_the_grid_gives_the_map_back() -> None:
    maps = torch.randn(2, 4, 7, 3, generator=torch.Generator().manual_seed(0))
    pixels = torch.from_numpy(pixel_grid(4, 7).reshape(-1, 2))
    torch.testing.assert_close(sample_bilinear(maps, pixels), maps.flatten(1, 2), atol=1e-5, rtol=0)


def test_a_linear_map_is_sampled_exactly_between_pixels() -> None:
    grid = pixel_grid(6, 9)
    maps = torch.from_numpy(grid @ np.array([2.0, -3.0]) + 1.0)[None, ..., None]
    pixels = torch.tensor([[0.25, 4.5], [7.9, 0.1], [3.3, 2.7]], dtype=torch.float64)
    expected = pixels @ torch.tensor([2.0, -3.0], dtype=torch.float64) + 1.0
    torch.testing.assert_close(sample_bilinear(maps, pixels)[0, :, 0], expected)


def test_outside_is_zero_and_the_border_fades() -> None:
    maps = torch.ones(1, 4, 6, 1)
    pixels = torch.tensor([[-1.5, 1.0], [2.0, 5.1], [-0.5, 1.0], [5.25, 3.0]])
    torch.testing.assert_close(sample_bilinear(maps, pixels)[0, :, 0], torch.tensor([0.0, 0.0, 0.5, 0.75]))


def test_each_map_may_have_its_own_pixels() -> None:
    maps = torch.arange(24.0).reshape(2, 3, 4, 1)
    pixels = torch.tensor([[[1.0, 0.0]], [[3.0, 2.0]]])
    torch.testing.assert_close(sample_bilinear(maps, pixels)[:, 0, 0], torch.tensor([1.0, 23.0]))
