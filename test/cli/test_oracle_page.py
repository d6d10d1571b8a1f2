"""The oracle's page: every picture it names is there, strips show what was scored, and figures are the summary's."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pomato_ros.cli.oracle_page import MOST_OF_A_KIND, STRIP_FRAMES, OraclePage, draw_trails, strip_frames
from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle_report import DEMANDS, summarise_oracle
from pomato_ros.evaluation.oracle_sets import OracleSequence
from pomato_ros.evaluation.oracle_tracks import TrackRecord
from pomato_ros.evaluation.oracle_trial import OracleRun, frame_with_depth, oracle_engine, record_run, score_run
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 10
SMALL = {"window_size": 6, "overlap": 2}


@pytest.fixture(scope="module")
def runs() -> list[tuple[OracleSequence, OracleRun]]:
    """One sequence that sees all the time, and one with three frames of noise."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0)
    clip = render_clip(5, world, FRAMES, (64, 48))
    sequences = [OracleSequence("ordinary", 5, clip), OracleSequence("blind", 6, clip, range(4, 7))]
    engine_for = oracle_engine(PomatoConfig().with_values(SMALL))
    return [(item, record_run(engine_for(item), item, frame_with_depth)) for item in sequences]


def test_the_page_shows_every_picture_and_every_score(
    runs: list[tuple[OracleSequence, OracleRun]], tmp_path: Path
) -> None:
    page = OraclePage()
    results = [score_run(sequence, run, 4) for sequence, run in runs]
    for result, (sequence, run) in zip(results, runs, strict=True):
        page.watch(result, sequence, run)
    summary = summarise_oracle(results)
    text = page.write(tmp_path / "page", summary, "pomato evaluate oracle & <more>").read_text(encoding="utf-8")
    named = re.findall(r'src="([^"]+)"', text)
    assert named == ["overview.png", "ordinary-5.png", "blind-6.png"]
    for name in named:
        picture = np.asarray(Image.open(tmp_path / "page" / name).convert("RGB"))
        assert picture.shape[1] >= 1200
        assert picture.std() > 10  # not one colour
    assert all(demand.meaning in text for demand in DEMANDS)
    assert "pomato evaluate oracle &amp; &lt;more&gt;" in text
    assert "http" not in text  # nothing is fetched from elsewhere


def test_only_the_first_of_a_kind_are_drawn(runs: list[tuple[OracleSequence, OracleRun]]) -> None:
    page = OraclePage()
    sequence, run = runs[0]
    result = score_run(sequence, run, 4)
    for _ in range(MOST_OF_A_KIND + 2):
        page.watch(result, sequence, run)
    assert len(page.sheets) == MOST_OF_A_KIND
    assert len(page.results) == MOST_OF_A_KIND + 2


@pytest.mark.parametrize(("count", "blind"), [(60, range(0)), (60, range(25, 35)), (600, range(0)), (8, range(3, 5))])
def test_strips_spread_over_the_sequence_and_show_one_frame_of_noise(count: int, blind: range) -> None:
    frames = strip_frames(count, blind)
    assert len(frames) == STRIP_FRAMES
    assert sorted(set(frames)) == list(frames)
    assert frames[-1] == count - 1
    assert sum(frame in blind for frame in frames) == (1 if len(blind) else 0)


def test_a_strip_holds_what_was_found_in_its_frames(runs: list[tuple[OracleSequence, OracleRun]]) -> None:
    page = OraclePage()
    sequence, run = runs[0]
    page.watch(score_run(sequence, run, 4), sequence, run)
    sheet = page.sheets[0]
    for place, frame in enumerate(sheet.frames):
        np.testing.assert_array_equal(sheet.moving[place], run.moving[frame])
        np.testing.assert_array_equal(sheet.images[place], sequence.clip.images[frame].numpy())


def test_trails_lead_to_where_visible_tracks_are(runs: list[tuple[OracleSequence, OracleRun]]) -> None:
    sequence, run = runs[0]
    image = sequence.clip.images[FRAMES - 1].numpy()
    drawn = draw_trails(image, run, FRAMES - 1)
    bare = draw_trails(image, dataclasses.replace(run, tracks=TrackRecord()), FRAMES - 1)
    record = run.tracks
    frames = np.concatenate(record.frames)
    now = (frames == FRAMES - 1) & np.concatenate(record.visible)
    assert now.any()
    pixels = np.rint(2.0 * np.concatenate(record.pixels)[now] + 0.5).astype(int)
    pixels = pixels.clip(0, (drawn.shape[1] - 1, drawn.shape[0] - 1))
    changed = (drawn != bare).any(axis=-1)
    assert changed[pixels[:, 1], pixels[:, 0]].all()
