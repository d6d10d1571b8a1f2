"""The paper's mixture, and the readers by name."""

from pathlib import Path

import pytest

from pomato_ros.datasets.mixture import PAPER_MIXTURE, READERS, open_dataset


def test_the_shares_are_the_papers() -> None:
    total = sum(PAPER_MIXTURE.values())
    percent = [round(100 * weight / total, 1) for weight in PAPER_MIXTURE.values()]
    assert percent == [57.1, 14.3, 14.3, 8.6, 5.7]


def test_every_dataset_of_the_mixture_has_a_reader() -> None:
    assert list(READERS) == list(PAPER_MIXTURE)


@pytest.mark.parametrize("dataset", PAPER_MIXTURE)
def test_an_empty_folder_is_refused_with_what_was_expected(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected|missing"):
        open_dataset(dataset, tmp_path)


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of point_odyssey, .* got 'kitti'"):
        open_dataset("kitti", tmp_path)
