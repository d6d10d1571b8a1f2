"""Which pair of a window relates the newest frame to its reference, in both modes."""

import dataclasses

import pytest
import torch

from pomato_ros.evaluation.oracle import OraclePredictor, frame_of
from pomato_ros.pointmap_scene.reference import ReferencePair, reference_pair, wanted_of
from pomato_ros.sources.dust3r.prediction import HEADS
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 4


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(5, TRAIN_WORLD, FRAMES, (48, 32))


def pair_of(
    clip: Clip, numbers: list[int], mode: str, placed: set[int] | None = None, held: int | None = None, overlap: int = 1
) -> ReferencePair:
    frames = tuple(prepare_frame(frame_of(clip, number), 48) for number in numbers)
    window = Window(frames, key=0 if mode == "anchored" else len(frames) - 1)
    stamps = {clip.stamps_ns[number] for number in placed or ()}
    prediction = OraclePredictor(clip, pair_scale=1.0).predict(window)
    return reference_pair(window, prediction, stamps, None if held is None else clip.stamps_ns[held], overlap)


def assert_pair(clip: Clip, pair: ReferencePair, reference: int, newest: int) -> None:
    assert (pair.reference_stamp_ns, pair.newest_stamp_ns) == (clip.stamps_ns[reference], clip.stamps_ns[newest])
    for maps, one, two in ((pair.in_reference, reference, newest), (pair.in_newest, newest, reference)):
        torch.testing.assert_close(maps.points_match, clip.points_matched(two, one))
        assert maps.conf_match.shape == (32, 48)
    torch.testing.assert_close(pair.in_newest.points_1, clip.points_camera(newest))
    torch.testing.assert_close(pair.in_reference.points_2, clip.points_transferred(newest, reference))
    torch.testing.assert_close(pair.reference_points, clip.points_camera(reference))
    assert pair.in_reference.conf_2.shape == pair.in_newest.conf_1.shape == (32, 48)


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
@pytest.mark.parametrize("numbers", [[0], [2], [0, 1], [1, 2, 3], [0, 1, 2, 3]])
def test_the_newest_frame_is_related_to_the_oldest_in_both_orders(clip: Clip, numbers: list[int], mode: str) -> None:
    assert_pair(clip, pair_of(clip, numbers, mode), numbers[0], numbers[-1])


def test_a_rolling_window_takes_the_oldest_frame_whose_pose_is_known(clip: Clip) -> None:
    assert_pair(clip, pair_of(clip, [0, 1, 2, 3], "rolling", {1, 2}), 1, 3)
    assert_pair(clip, pair_of(clip, [0, 1, 2, 3], "rolling", {3}), 0, 3)


@pytest.mark.parametrize("held", [0, 1, 2])
def test_a_rolling_window_holds_on_to_its_reference_while_it_can(clip: Clip, held: int) -> None:
    assert_pair(clip, pair_of(clip, [0, 1, 2, 3], "rolling", {0, 1, 2}, held), held, 3)


@pytest.mark.parametrize(
    ("placed", "overlap", "reference"), [({1, 2}, 1, 2), ({1, 2}, 2, 1), ({1}, 1, 1), (set(), 1, 1)]
)
def test_when_its_reference_has_left_a_rolling_window_takes_a_recent_one(
    clip: Clip, placed: set[int], overlap: int, reference: int
) -> None:
    assert_pair(clip, pair_of(clip, [1, 2, 3], "rolling", placed, 0, overlap), reference, 3)


def test_an_anchored_window_has_no_other_reference_than_its_key(clip: Clip) -> None:
    assert_pair(clip, pair_of(clip, [0, 1, 2, 3], "anchored", {1, 2}), 0, 3)


@pytest.mark.parametrize("mode", ["anchored", "rolling"])
@pytest.mark.parametrize("of_reference", [True, False])
def test_without_tracks_one_map_less_is_asked_for_and_none_is_handed_on(
    clip: Clip, mode: str, of_reference: bool
) -> None:
    frames = tuple(prepare_frame(frame_of(clip, number), 48) for number in range(3))
    window = Window(frames, key=0 if mode == "anchored" else 2)
    other = 2 if mode == "anchored" else 0
    whole, less = (wanted_of(window, (other,), of_reference, match_tracks) for match_tracks in (True, False))
    own, in_reference = ("from_key", "to_key") if mode == "anchored" else ("to_key", "from_key")
    assert getattr(whole, f"{in_reference}_heads") == getattr(less, f"{in_reference}_heads")
    assert getattr(whole, f"{own}_heads") == (1, 3)
    assert getattr(less, f"{own}_heads") == (1,)
    prediction = OraclePredictor(clip, pair_scale=1.0).predict(window, less)
    rows = getattr(prediction, own)
    left_out = dataclasses.replace(rows, points_match=rows.points_match[:0], conf_match=rows.conf_match[:0])
    pair = reference_pair(window, dataclasses.replace(prediction, **{own: left_out}))
    assert pair.in_newest.points_match is pair.in_newest.conf_match is None
    torch.testing.assert_close(pair.in_newest.points_1, clip.points_camera(2))
    torch.testing.assert_close(pair.in_reference.points_match, clip.points_matched(2, 0))
    assert set(less.from_key_heads) | set(less.to_key_heads) == set(HEADS)
