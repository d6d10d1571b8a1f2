"""IoU of sets one can count by hand."""

import numpy as np
import pytest

from pomato_ros.evaluation.metrics.masks import intersection_over_union, region_similarity


def rectangle(columns: slice) -> np.ndarray:
    mask = np.zeros((4, 10), dtype=bool)
    mask[:, columns] = True
    return mask


def test_overlap_over_union() -> None:
    assert intersection_over_union(rectangle(slice(0, 6)), rectangle(slice(4, 10))) == pytest.approx(0.2)
    assert intersection_over_union(rectangle(slice(0, 3)), rectangle(slice(5, 9))) == 0.0
    assert intersection_over_union(rectangle(slice(0, 3)), rectangle(slice(0, 3))) == 1.0


def test_iou_is_symmetric() -> None:
    a, b = np.random.default_rng(0).random((2, 8, 9)) < 0.4
    assert intersection_over_union(a, b) == intersection_over_union(b, a)


def test_two_empty_masks_agree_and_one_does_not() -> None:
    empty = np.zeros((3, 3), dtype=bool)
    assert intersection_over_union(empty, empty) == 1.0
    assert intersection_over_union(~empty, empty) == 0.0


def test_mean_and_recall_over_a_sequence() -> None:
    truth = np.stack([rectangle(slice(0, 5))] * 3)
    predicted = np.stack([rectangle(slice(0, 5)), rectangle(slice(0, 4)), rectangle(slice(5, 10))])
    similarity = region_similarity(predicted, truth)
    assert similarity.mean == pytest.approx((1.0 + 0.8 + 0.0) / 3)
    assert similarity.recall == pytest.approx(2 / 3)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="one shape"):
        intersection_over_union(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="as many masks"):
        region_similarity(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)))
