import dataclasses

import numpy as np
import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.evaluation.suites.rendered import RenderPlan, rendered_sequence
from pomato_ros.pipeline import ScenePipeline
from pomato_ros.scene.flow import FlowCache
from pomato_ros.scene.flow_ahead import FlowAhead
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.training.config import HELD_OUT_SEED
from pomato_ros.window import RollingWindow

PLAN = RenderPlan(HELD_OUT_SEED, sequences=1, frames=10, size_wh=(160, 120), cache=None)


@pytest.fixture(scope="module")
def sequence():
    return rendered_sequence(PLAN, "ordinary", HELD_OUT_SEED + 7)


@pytest.fixture(scope="module")
def images(sequence):
    return [np.ascontiguousarray(image.numpy()[..., 1]) for image in sequence.clip.images]


def assert_same(one, other):  # but for the last bit, which depends on where arrays lie in memory
    for field in dataclasses.fields(one):
        pair = (np.asarray(getattr(each, field.name), np.float64) for each in (one, other))
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ahead", [(), (1,), (8, 1, 4), (2, 8)])
def test_what_is_found_ahead_is_what_the_cache_finds(images, ahead):
    serial, threaded = FlowCache(), FlowAhead()
    for stamp_ns, image in enumerate(images, 1):
        serial.push(stamp_ns, image)
        threaded.push(stamp_ns, image)
        threaded.prepare(ahead)
    assert threaded.frame_count == serial.frame_count
    for gap in (1, 2, 4, 8):
        assert_same(threaded.correspondence(gap), serial.correspondence(gap))
    assert threaded.correspondence(9) is None


def test_frames_that_do_not_continue_the_stream_are_refused_and_the_rest_goes_on(images):
    flow, serial = FlowAhead(), FlowCache()
    for stamp_ns, image in enumerate(images[:3], 1):
        flow.push(stamp_ns, image)
        serial.push(stamp_ns, image)
    flow.prepare((1, 2))
    with pytest.raises(UnusableFrame):
        flow.push(3, images[3])
    assert_same(flow.correspondence(2), serial.correspondence(2))
    flow.reset()
    assert flow.frame_count == 0
    assert flow.correspondence(1) is None


class SerialFlow(FlowCache):
    """The same flow, found when it is asked for."""

    def prepare(self, gaps):
        """Nothing ahead."""


def scenes_of(sequence, flow):
    config = PomatoConfig().with_values({"backend": "rgbd"})
    pipeline = ScenePipeline(config, RgbdSource(config))
    if flow is not None:
        pipeline.estimator._flow = flow
    window = RollingWindow(config.window.window_size, config.window.overlap, config.window.mode)
    frames = [window.push(pipeline.prepare(sequence.rgbd_frame(t))) for t in range(len(sequence))]
    return [pipeline.evaluate([frame], PredictionRequest())[0] for frame in frames if frame is not None]


def test_scenes_are_the_same_with_and_without_a_thread(sequence):
    threaded, serial = scenes_of(sequence, None), scenes_of(sequence, SerialFlow())
    assert len(threaded) == len(serial) > 5
    for one, other in zip(threaded, serial, strict=True):
        np.testing.assert_allclose(one.world_from_camera, other.world_from_camera, atol=1e-6)
        np.testing.assert_array_equal(one.dynamic_mask, other.dynamic_mask)
        np.testing.assert_allclose(one.points_camera, other.points_camera, atol=1e-4)
        assert_same(one.tracks, other.tracks)
        assert_same(one.objects, other.objects)
