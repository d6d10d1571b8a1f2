"""Global alignment of true pointmaps gives the truth; what moves is masked."""

from collections.abc import Sequence

import numpy as np
import pytest

from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.mapping.chunk import align_chunk, pixel_stride
from pomato_ros.mapping.options import AlignmentOptions, PairOptions
from pomato_ros.mapping.pair_prediction import PairPredictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame
from pomato_ros.synthetic.clip import Clip

FRAMES = 6
OPTIONS = AlignmentOptions(iterations=40, smoothness_weight=0.0, flow_weight=0.0, moving_floor=0.01)


@pytest.mark.parametrize("graph", ["window", "complete", "reference"])
def test_true_pointmaps_give_the_true_cameras(
    clip: Clip, frames: Sequence[Frame], true_pairs: PairPredictor, graph: str
) -> None:
    prepared = [prepare_frame(frame, true_pairs.image_size_px) for frame in frames[:FRAMES]]
    result = align_chunk(prepared, true_pairs, PairOptions(graph=graph, neighbours=3, stride=1), OPTIONS)
    truth = clip.world_from_camera[:FRAMES].numpy()
    aligned = align_trajectory(result.world_from_camera, truth)
    assert root_mean_square(absolute_errors(aligned, truth)) < 0.05 * path_length(truth)
    true_depth = clip.depth_m[:FRAMES].numpy()
    static = ~result.moving
    ratio = result.depth[static] / true_depth[static]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.02


def test_moving_pixels_are_those_that_truly_move(
    clip: Clip, frames: Sequence[Frame], true_pairs: PairPredictor
) -> None:
    prepared = [prepare_frame(frame, true_pairs.image_size_px) for frame in frames[:FRAMES]]
    pairs = PairOptions(graph="complete")
    options = AlignmentOptions(iterations=0, flow_weight=0.0, moving_floor=0.01)
    masked = align_chunk(prepared, true_pairs, pairs, options).moving
    truth = np.stack([clip.moving(t).numpy() for t in range(FRAMES)])
    assert truth.any()
    assert (masked & ~truth).sum() <= 0.02 * truth.size
    none = AlignmentOptions(iterations=0, flow_weight=0.0, mask_moving=False)
    assert not align_chunk(prepared, true_pairs, pairs, none).moving.any()


def test_more_steps_do_not_cost_more(frames: Sequence[Frame], true_pairs: PairPredictor) -> None:
    prepared = [prepare_frame(frame, true_pairs.image_size_px) for frame in frames[:4]]
    result = align_chunk(prepared, true_pairs, PairOptions(), AlignmentOptions(iterations=30))
    assert result.cost[1] <= result.cost[0]
    assert np.isfinite(result.depth).all()


def test_large_images_are_thinned() -> None:
    assert pixel_stride(96, 128, 3072) == 2
    assert pixel_stride(32, 48, 3072) == 1
