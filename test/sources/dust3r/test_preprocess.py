"""Frames keep their orientation, their colours and the truth of their intrinsics on the way to the network."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pomato_ros.geometry.camera import transform_pixels, unproject
from pomato_ros.sources.dust3r.preprocess import (
    fast_reconstruction_rule,
    normalise,
    pairwise_rule,
    prepare_frame,
    tracking_rule,
)
from pomato_ros.structures import Frame, Intrinsics, PreparedFrame

SIZES_WH = [(640, 480), (480, 640), (1280, 720), (333, 517), (128, 96), (60, 40)]
EXIF_ORIENTATION = 0x0112
TURNED_LEFT = 6  # stored lying on its side; shown turned a quarter clockwise


def gradient(width: int, height: int) -> np.ndarray:
    """Red grows by x, green by y, so that a pixel tells where in the source it came from."""
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    return np.round(np.stack((x, y, 0.5 + 0 * x), axis=-1) * 255).astype(np.uint8)


def prepared(width: int, height: int, long_side_px: int = 256, intrinsics: Intrinsics | None = None) -> PreparedFrame:
    return prepare_frame(Frame(stamp_ns=7, image_rgb=gradient(width, height), intrinsics=intrinsics), long_side_px)


@pytest.mark.parametrize(("width", "height"), SIZES_WH)
def test_size_is_whole_patches_and_keeps_the_orientation(width: int, height: int) -> None:
    frame = prepared(width, height)
    rows, columns = frame.size_hw
    assert frame.image_rgb.shape == (rows, columns, 3)
    assert rows % 16 == 0
    assert columns % 16 == 0
    assert max(rows, columns) == 256
    assert (rows > columns) == (height > width)
    assert frame.source_size_wh == (width, height)
    assert frame.stamp_ns == 7


@pytest.mark.parametrize(("width", "height"), SIZES_WH)
def test_homography_says_where_each_pixel_came_from(width: int, height: int) -> None:
    frame = prepared(width, height)
    rows, columns = frame.image_rgb.shape[:2]
    x, y = np.meshgrid(np.arange(8, columns - 8, 5), np.arange(8, rows - 8, 5))
    source = transform_pixels(np.linalg.inv(frame.model_from_source), np.stack((x, y), axis=-1))
    expected = np.stack((source[..., 0] / width, source[..., 1] / height), axis=-1) * 255
    difference = frame.image_rgb[y, x, :2].astype(float) - expected
    # half a pixel of shift would move the mean by more than rounding can; enlarged, a source pixel is worth more levels
    assert np.abs(difference).max() < 2.0
    assert np.abs(difference.mean(axis=(0, 1))).max() < (0.2 if max(width, height) > 256 else 0.6)


@pytest.mark.parametrize(("width", "height"), SIZES_WH)
def test_a_ray_through_a_pixel_stays(width: int, height: int) -> None:
    intrinsics = Intrinsics(500.0, 510.0, width / 2 + 3, height / 2 - 4, width, height)
    frame = prepared(width, height, intrinsics=intrinsics)
    assert frame.intrinsics is not None
    assert (frame.intrinsics.height_px, frame.intrinsics.width_px) == frame.size_hw
    pixels = np.random.default_rng(0).uniform(0, min(width, height), size=(10, 2))
    before = unproject(pixels, np.ones(10), intrinsics.matrix())
    after = unproject(transform_pixels(frame.model_from_source, pixels), np.ones(10), frame.intrinsics.matrix())
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_without_intrinsics_there_are_none() -> None:
    assert prepared(64, 48).intrinsics is None


def test_an_image_of_the_right_size_is_not_touched() -> None:
    frame = prepared(256, 192)
    np.testing.assert_array_equal(frame.image_rgb, gradient(256, 192))
    np.testing.assert_array_equal(frame.model_from_source, np.eye(3))


def test_the_crop_is_centred() -> None:
    frame = prepared(640, 450)
    centre = transform_pixels(frame.model_from_source, [(640 - 1) / 2, (450 - 1) / 2])
    rows, columns = frame.image_rgb.shape[:2]
    np.testing.assert_allclose(centre, [(columns - 1) / 2, (rows - 1) / 2], atol=0.5)


def test_shrinking_averages_fine_patterns_away() -> None:
    y, x = np.mgrid[:512, :512]
    checker = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=-1)
    frame = prepare_frame(Frame(0, checker), 128)
    assert np.abs(frame.image_rgb.astype(float) - 127.5).max() < 2


def test_the_tensor_holds_the_same_pixels_between_minus_one_and_one() -> None:
    frame = prepared(640, 480)
    back = torch.round((normalise(frame.image_rgb) * 0.5 + 0.5) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(back, frame.image_rgb)
    assert normalise(frame.image_rgb).dtype == torch.float32


def test_normalise_maps_black_and_white_and_keeps_leading_axes() -> None:
    images = np.zeros((2, 3, 4, 5, 3), dtype=np.uint8)
    images[1] = 255
    images.flags.writeable = False
    tensor = normalise(images)
    assert tensor.shape == (2, 3, 3, 4, 5)
    assert tensor[0].unique().tolist() == [-1.0]
    assert tensor[1].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)],
)
def test_what_is_not_an_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(h, w, 3\) of uint8"):
        prepare_frame(Frame(0, image), 128)


def test_a_strip_thinner_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than one patch"):
        prepared(1000, 20, long_side_px=128)


def test_published_rules_never_turn_or_mirror_an_image() -> None:
    for width, height in SIZES_WH:
        image = Image.fromarray(gradient(width, height))
        for rule in (pairwise_rule(512), pairwise_rule(224), fast_reconstruction_rule(512), tracking_rule(512)):
            tensor = rule(image)
            red, green = tensor[0], tensor[1]
            assert red[:, -1].mean() > red[:, 0].mean()
            assert green[-1].mean() > green[0].mean()
            assert torch.allclose(red[0], red[-1], atol=0.02)


def test_published_sizes() -> None:
    square, wide = Image.new("RGB", (600, 600)), Image.new("RGB", (854, 480))
    assert pairwise_rule(512)(square).shape == (3, 384, 512)
    assert pairwise_rule(512, square_ok=True)(square).shape == (3, 512, 512)
    assert fast_reconstruction_rule(512)(square).shape == (3, 512, 512)
    assert pairwise_rule(224)(wide).shape == (3, 224, 224)
    assert fast_reconstruction_rule(224)(wide).shape == (3, 126, 126)
    assert pairwise_rule(512)(wide).shape == (3, 288, 512)
    assert tracking_rule(512)(wide).shape == (3, 272, 512)


def test_without_crop_the_whole_image_is_squashed() -> None:
    image = Image.fromarray(gradient(640, 450))
    cropped, squashed = pairwise_rule(512)(image), pairwise_rule(512, crop=False)(image)
    assert cropped.shape == squashed.shape
    assert squashed[1, -1].mean() > cropped[1, -1].mean()


def test_exif_orientation_counts_where_the_published_loader_reads_it() -> None:
    image = Image.fromarray(gradient(640, 480))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_LEFT
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", exif=exif)
    with Image.open(buffer) as stored:
        assert pairwise_rule(512)(stored).shape == (3, 512, 384)
        assert fast_reconstruction_rule(512)(stored).shape == (3, 512, 384)
        assert tracking_rule(512)(stored).shape == (3, 384, 512)


def test_half_precision_where_the_published_loader_rounds() -> None:
    image = Image.fromarray(gradient(640, 480))
    exact = pairwise_rule(512)(image)
    assert not torch.equal(exact.half().float(), exact)
    for rule in (fast_reconstruction_rule(512), tracking_rule(512)):
        rounded = rule(image)
        assert torch.equal(rounded.half().float(), rounded)


@pytest.mark.parametrize(("width", "height"), SIZES_WH)
def test_depth_is_taken_from_the_pixels_under_the_image_and_never_mixed(width: int, height: int) -> None:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    depth = (2048.0 * y + x).astype(np.float32)
    frame = prepare_frame(Frame(0, gradient(width, height), depth_m=depth), 256)
    assert frame.depth_m is not None
    rows, columns = frame.image_rgb.shape[:2]
    assert frame.depth_m.shape == (rows, columns)
    taken_y, taken_x = np.divmod(frame.depth_m, 2048.0)
    wanted = transform_pixels(
        np.linalg.inv(frame.model_from_source), np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)
    )
    assert np.abs(taken_x - wanted[..., 0]).max() <= 0.5 + 1e-3
    assert np.abs(taken_y - wanted[..., 1]).max() <= 0.5 + 1e-3


def test_a_depth_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a depth image of the image's shape \(40, 60\)"):
        prepare_frame(Frame(0, gradient(60, 40), depth_m=np.ones((40, 61), np.float32)), 256)
