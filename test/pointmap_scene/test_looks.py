"""Looks on sheets are followed to where they are followed from the images that they are of."""

import numpy as np
import pytest

from pomato_ros.pointmap_scene.features import new_features, softened
from pomato_ros.pointmap_scene.follow import follow_from
from pomato_ros.pointmap_scene.looks import LEAST_SIDE_PX, LOOK_PX, Sheets
from pomato_ros.structures import PoseArray
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

NOTHING, NOWHERE = np.zeros(0, np.int64), np.zeros((0, 2))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(6, TRAIN_WORLD, 4, (160, 112))


def grey_of(clip: Clip, t: int) -> np.ndarray:
    return softened(clip.images[t].numpy())


def also_at_edges(grey: np.ndarray) -> PoseArray:
    """(n, 2) corners of an image, and places all along its edges, nearer to them than half a look."""
    height, width = grey.shape
    beside = [(x, y) for x in range(0, width, 9) for y in (0, 3, height - 1)]
    beside += [(x, y) for y in range(0, height, 9) for x in (0, 5, width - 1)]
    return np.concatenate((new_features(grey, NOWHERE, 60), np.array(beside, np.float64)))


@pytest.mark.parametrize("patch_px", [7, 11])
def test_looks_are_followed_as_whole_images_are(clip: Clip, patch_px: int) -> None:
    newest, sheets = grey_of(clip, 2), Sheets()
    begun, numbers, spots = [], NOTHING, NOWHERE
    for t in range(2):
        pixels = also_at_edges(grey_of(clip, t))
        number, spot = sheets.add(grey_of(clip, t), pixels, numbers, spots)
        numbers, spots = np.concatenate((numbers, number)), np.concatenate((spots, spot))
        begun.append((grey_of(clip, t), pixels))
    fast, found = np.zeros(spots.shape), np.zeros(len(spots), bool)
    expected = np.concatenate([pixels for _, pixels in begun])
    for number, sheet in enumerate(sheets.images):
        here = numbers == number
        fast[here], found[here] = follow_from(sheet, newest, spots[here], expected[here], patch_px, levels=0, steps=10)
    each = [follow_from(grey, newest, pixels, pixels, patch_px, levels=0, steps=10) for grey, pixels in begun]
    slow, found_slowly = (np.concatenate(parts) for parts in zip(*each, strict=True))
    assert found_slowly.mean() > 0.2
    # the way back may lead beyond the look, from where it is no longer the same
    assert (found == found_slowly).mean() > 0.98
    both = found & found_slowly
    np.testing.assert_array_equal(fast[both], slow[both])


def test_looks_that_are_not_needed_any_more_make_room(clip: Clip) -> None:
    grey, sheets = grey_of(clip, 0), Sheets()
    draws = np.random.default_rng(0)
    numbers, spots, looks = NOTHING, NOWHERE, np.zeros((0, 3, 3), np.uint8)
    for _ in range(30):
        pixels = draws.integers((1, 1), (159, 111), (20, 2)).astype(np.float64)
        number, spot = sheets.add(grey, pixels, numbers, spots)
        there = np.stack([grey[y - 1 : y + 2, x - 1 : x + 2] for x, y in pixels.astype(int)])
        numbers, spots, looks = (np.concatenate(both) for both in ((numbers, number), (spots, spot), (looks, there)))
        for sheet, (x, y), look in zip(numbers, spots.astype(int), looks, strict=True):
            np.testing.assert_array_equal(sheets.images[sheet][y - 1 : y + 2, x - 1 : x + 2], look)
        kept = draws.random(len(numbers)) < 0.5
        numbers, spots, looks = numbers[kept], spots[kept], looks[kept]
    assert len(sheets.images) < 8
    sheets.add(grey, NOWHERE, NOTHING, NOWHERE)
    assert not sheets.images


@pytest.mark.parametrize("shape", [(LEAST_SIDE_PX, LEAST_SIDE_PX), (LEAST_SIDE_PX, 100), (3 * LOOK_PX - 1, 64)])
def test_small_images_have_room_for_any_number_of_looks(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    y, x = (part.ravel() for part in np.indices(shape))
    sheets = Sheets()
    numbers, spots = sheets.add(grey, np.stack((x, y), axis=-1).astype(np.float64), NOTHING, NOWHERE)
    column, row = spots.astype(int).T
    assert [sheets.images[n][r, c] for n, r, c in zip(numbers, row, column, strict=True)] == grey[y, x].tolist()
    for at, side, spot in ((x, shape[1], column), (y, shape[0], row)):  # as near to the sheet's edge as to the image's
        np.testing.assert_array_equal(spot[at < LOOK_PX // 2], at[at < LOOK_PX // 2])
        beyond = at >= side - LOOK_PX // 2
        np.testing.assert_array_equal(spot[beyond], at[beyond])


def test_an_image_too_small_for_looks_is_its_own_sheet_as_long_as_it_is_needed() -> None:
    draws, sheets = np.random.default_rng(0), Sheets()
    shape, nobody = (16, 64), (np.zeros(0, np.int64), np.zeros((0, 2)))
    images = [draws.integers(0, 256, shape, np.uint8) for _ in range(4)]
    pixels = draws.uniform(0, (63, 15), (5, 2))
    first, spots = sheets.add(images[0], pixels, *nobody)
    np.testing.assert_array_equal(spots, pixels)
    second, _ = sheets.add(images[1], pixels, first, spots)
    third, _ = sheets.add(images[2], pixels, second, spots)  # the first is not needed any more
    for numbers, image in ((second, images[1]), (third, images[2])):
        assert (sheets.images[numbers[0]] == image).all()
    assert len(sheets.images) == 2
