"""Bundle adjustment finds the cameras that exact observations define, outliers or not."""

import numpy as np

from pomato_ros.evaluation.metrics.trajectory import absolute_errors, align_trajectory, path_length, root_mean_square
from pomato_ros.geometry.camera import project
from pomato_ros.geometry.rigid import compose, invert, pose_exp, transform
from pomato_ros.mapping.bundle import BundleProblem, adjust, reprojection_errors
from pomato_ros.mapping.depth_refinement import agreed_depth, corrected_depth
from pomato_ros.mapping.flow_depth import triangulated_depth
from pomato_ros.mapping.image_tracks import ImageTracks, follow_images
from pomato_ros.synthetic.clip import Clip

MATRIX = np.array([[60.0, 0, 47.5], [0, 60.0, 35.5], [0, 0, 1]])
CAMERAS, POINTS = 6, 80


def exact_problem(outliers: int = 0) -> tuple[BundleProblem, np.ndarray]:
    """Cameras beside a plane of points; poses and depth to begin with are wrong."""
    draw = np.random.default_rng(1)
    points = np.stack(
        (draw.uniform(-1.5, 1.5, POINTS), draw.uniform(-1, 1, POINTS), draw.uniform(2.5, 4, POINTS)), axis=-1
    )
    truth = np.stack([pose_exp(np.array([0.1 * t, 0.03 * t, 0.02 * t, 0, 0.02 * t, 0])) for t in range(CAMERAS)])
    rows = [
        (p, t, project(transform(invert(truth[t]), points[p]), MATRIX)) for t in range(CAMERAS) for p in range(POINTS)
    ]
    rows = [row for row in rows if (row[2] > 1).all() and (row[2] < (94, 70)).all()]
    track, image, pixels = (np.array(column) for column in zip(*rows, strict=True))
    spoiled = draw.choice(len(track), outliers, replace=False)
    pixels[spoiled] += 15
    start = np.stack([compose(pose, pose_exp(0.02 * draw.normal(size=6) * (t > 0))) for t, pose in enumerate(truth)])
    depth = np.full((CAMERAS, 72, 96), 3.2, np.float32)
    tracks = ImageTracks(track, image, pixels).select(np.ones(len(track), bool))
    return BundleProblem(start, MATRIX, depth, 0.5, tracks), truth


def test_exact_observations_give_the_true_cameras() -> None:
    for outliers in (0, 20):
        problem, truth = exact_problem(outliers)
        result = adjust(problem)
        aligned = align_trajectory(result.world_from_camera, truth)
        assert root_mean_square(absolute_errors(aligned, truth)) < 0.01 * path_length(truth)
        assert result.residual_px < 0.2
        assert len(result.inliers.track) >= 0.85 * len(problem.tracks.track)


def test_errors_behind_the_camera_are_infinite() -> None:
    tracks = ImageTracks(np.array([0]), np.array([0]), np.zeros((1, 2)))
    assert np.isinf(reprojection_errors(np.eye(4)[None], np.array([[0.0, 0, -1]]), MATRIX, tracks)).all()


def test_tracks_follow_what_rests(clip: Clip) -> None:
    images = [image.numpy() for image in clip.images]
    static = np.stack([~clip.moving(t).numpy() for t in range(len(clip))])
    tracks = follow_images(images, static)
    assert np.bincount(tracks.track)[np.unique(tracks.track)].min() >= 3
    errors = []
    for number in np.unique(tracks.track)[:50]:
        rows = np.flatnonzero(tracks.track == number)
        a, b = (int(tracks.image[row]) for row in (rows[0], rows[-1]))
        x, y = np.rint(tracks.pixels[rows[0]]).astype(int)
        errors.append(np.linalg.norm(clip.pixels_matched(a, b)[y, x].numpy() - tracks.pixels[rows[-1]]))
    assert np.nanmedian(errors) < 1.0


def test_depth_of_the_wrong_unit_is_brought_onto_the_points() -> None:
    problem, _ = exact_problem()
    result = adjust(problem)
    corrected = corrected_depth(problem.depth * 2.0, result)
    assert np.median(corrected) < 0.75 * np.median(problem.depth * 2.0)


def test_several_views_average_noise_of_depth_away(clip: Clip) -> None:
    moving = np.stack([clip.moving(t).numpy() for t in range(len(clip))])
    truth, poses, matrix = clip.depth_m.numpy(), clip.world_from_camera.numpy(), clip.intrinsics.matrix()
    noisy = truth * np.exp(0.1 * np.random.default_rng(0).normal(size=truth.shape)).astype(np.float32)
    agreed = agreed_depth(noisy, moving, poses, matrix)
    before, after = (np.median(np.abs(depth / truth - 1)[~moving]) for depth in (noisy, agreed))
    assert after < 0.8 * before


def test_flow_leaves_a_true_depth_nearly_as_it_is(clip: Clip) -> None:
    images = [image.numpy() for image in clip.images]
    moving = np.stack([clip.moving(t).numpy() for t in range(len(clip))])
    truth, poses, matrix = clip.depth_m.numpy(), clip.world_from_camera.numpy(), clip.intrinsics.matrix()
    measured = triangulated_depth(images, moving, truth, poses, matrix)
    assert np.median(np.abs(measured / truth - 1)[~moving]) < 0.1
    assert np.array_equal(measured[moving], truth[moving])
