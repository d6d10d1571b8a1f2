import numpy as np

from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.scene.readout import Readout, image_velocity, row_phase
from pomato_ros.structures import Intrinsics

CAMERA = Intrinsics(300.0, 310.0, 159.5, 119.5, 320, 240)


def seen(points, pose):
    camera = (points - pose[:3, 3]) @ pose[:3, :3]
    return np.stack((CAMERA.fx_px * camera[:, 0], CAMERA.fy_px * camera[:, 1]), -1) / camera[:, 2:]


def test_image_velocity_is_the_derivative_of_projection():
    draws = np.random.default_rng(0)
    points = draws.uniform((-1, -1, 1), (1, 1, 4), (50, 3))
    velocity = np.array([0.3, -0.2, 0.5, 0.1, -0.4, 0.2])
    step = 1e-6
    ahead, behind = (seen(points, pose_exp(sign * step * velocity)) for sign in (1, -1))
    np.testing.assert_allclose(image_velocity(points, velocity, CAMERA), (ahead - behind) / (2 * step), atol=1e-3)


def test_rows_run_from_minus_to_plus_a_half():
    phase = row_phase(np.array([[0.0, 0.0], [5.0, 119.5], [9.0, 239.0]]), 240)
    np.testing.assert_allclose(phase, (-0.5 + 0.5 / 240, 0.0, 0.5 - 0.5 / 240), atol=1e-12)


def test_the_readout_time_is_found_from_noisy_estimates():
    draws, true_s = np.random.default_rng(1), 0.02
    readout = Readout()
    for _ in range(400):
        error = true_s - readout.seconds + 0.004 * draws.standard_normal()
        readout = readout.updated(error, 1.0 / 0.002**2, limit_s=0.033)
    assert abs(readout.seconds - true_s) < 0.003


def test_a_global_shutter_stays_one():
    draws, readout = np.random.default_rng(2), Readout()
    for _ in range(400):
        readout = readout.updated(-readout.seconds + 0.003 * draws.standard_normal(), 1.0 / 0.002**2, limit_s=0.033)
    assert abs(readout.seconds) < 0.002


def test_it_is_no_longer_than_a_frame_and_ignores_what_is_no_number():
    readout = Readout()
    for _ in range(100):
        readout = readout.updated(0.5, 1e8, limit_s=0.03)
    assert readout.seconds == 0.03
    assert readout.updated(float("nan"), 1e8, 0.03) == readout
    assert readout.updated(0.1, 0.0, 0.03) == readout
