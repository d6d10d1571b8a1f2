"""What moves is found at any scale, and a still scene has an empty mask."""

import torch

from pomato_ros.pointmap_scene.motion_mask import lower_median, motion_distance, motion_mask

HEIGHT, WIDTH = 24, 40


def still_scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points two to six away, and the same points with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(HEIGHT, WIDTH, 3, generator=generator) + torch.tensor([0.0, 0.0, 3.0])
    return points, points + 0.01 * torch.randn(HEIGHT, WIDTH, 3, generator=generator)


def moving_scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    points, match = still_scene()
    truth = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    truth[5:12, 8:20] = True
    match[truth] += torch.tensor([0.8, 0.0, 0.0])
    return points, match, truth


def test_a_mover_is_found_exactly() -> None:
    points, match, truth = moving_scene()
    assert torch.equal(motion_mask(points, match, alpha=3.0, floor=0.08), truth)


def test_a_still_scene_is_empty_only_because_of_the_floor() -> None:
    points, match = still_scene()
    match[0, :5] += 0.1  # noise with a tail
    assert motion_mask(points, match, alpha=3.0, floor=0.0).any()
    assert not motion_mask(points, match, alpha=3.0, floor=0.08).any()


def test_the_mask_does_not_depend_on_the_scale() -> None:
    points, match, truth = moving_scene()
    for scale in (1e-3, 1e3):
        assert torch.equal(motion_mask(scale * points, scale * match, alpha=3.0, floor=0.08), truth)


def test_without_floor_it_is_the_paper_rule() -> None:
    points, match, _ = moving_scene()
    distance = motion_distance(points, match)
    expected = distance > 3.0 * distance.flatten().median()
    assert torch.equal(motion_mask(points, match, alpha=3.0, floor=0.0), expected)


def test_each_image_of_a_batch_has_its_own_median() -> None:
    points, match, _ = moving_scene()
    still, still_match = still_scene(1)
    batch = motion_mask(torch.stack((points, still)), torch.stack((match, still_match)), 3.0, 0.01)
    assert torch.equal(batch[0], motion_mask(points, match, 3.0, 0.01))
    assert torch.equal(batch[1], motion_mask(still, still_match, 3.0, 0.01))


def test_invalid_pixels_neither_move_nor_count() -> None:
    points, match, truth = moving_scene()
    match[0] = torch.nan
    points[1] = torch.inf
    valid = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    valid[5:8] = False
    match[15:20] += 50.0
    valid[15:20] = False
    assert torch.equal(motion_mask(points, match, 3.0, 0.08, valid), truth & valid)


def test_an_image_without_a_valid_pixel_has_an_empty_mask() -> None:
    points, match, _ = moving_scene()
    assert not motion_mask(points, match, 3.0, 0.0, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)).any()


def test_median_is_the_lower_of_two_middle_values() -> None:
    values = torch.tensor([[4.0, 1.0], [3.0, 2.0]])
    assert lower_median(values, values > 0) == 2.0
    assert lower_median(values, values > 1) == 3.0
