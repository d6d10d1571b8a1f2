"""Where global alignment starts: images chained along the maximum spanning tree of confident pairs (DUSt3R)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.alignment import Similarity, align_similarity
from pomato_ros.geometry.camera import focal_by_irls, half_size_principal_point
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpSolution, solve_pose
from pomato_ros.geometry.rigid import pose_from

PNP_THRESHOLD_PX = 5.0
PNP_ITERATIONS = 10
PNP_SEED = 0
FloatMaps = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class TreeStart:
    """A first answer for all images, in the frame and unit of the strongest edge."""

    points_world: NDArray[np.float64]  # (n, h, w, 3)
    world_from_camera: NDArray[np.float64]  # (n, 4, 4)
    focals_px: NDArray[np.float64]  # (n,)


@dataclass(frozen=True, slots=True)
class GraphMaps:
    """Pointmaps of edges (i, j), in camera i; see :class:`pomato_ros.mapping.objective.EdgePointmaps`."""

    edges: NDArray[np.int64]  # (e, 2)
    points_i: FloatMaps  # (e, h, w, 3)
    points_j: FloatMaps
    conf_i: FloatMaps  # (e, h, w)
    conf_j: FloatMaps

    @property
    def scores(self) -> NDArray[np.float64]:
        """(e,) product of the two mean confidences."""
        return np.asarray(self.conf_i, np.float64).mean(axis=(1, 2)) * np.asarray(self.conf_j, np.float64).mean((1, 2))

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.edges.max()) + 1


def start_from_tree(maps: GraphMaps, min_confidence: float, known_focal_px: float | None = None) -> TreeStart:
    """Points, poses and focal lengths of all images from the strongest edges that connect them.

    ``min_confidence``: points above it are used where a pose has to be found from its points.

    Raises:
        ValueError: the graph is not connected.
    """
    points: dict[int, NDArray[np.float64]] = {}
    poses: dict[int, NDArray[np.float64]] = {}
    for edge in _tree_order(maps):
        _attach(maps, edge, points, poses)
    focals_px = _focals(maps, known_focal_px)
    confidence = image_confidence(maps)
    for image in range(maps.count):
        if image not in poses:
            poses[image] = _pose_on_points(points[image], confidence[image] > min_confidence, focals_px[image])
    everyone = range(maps.count)
    return TreeStart(np.stack([points[i] for i in everyone]), np.stack([poses[i] for i in everyone]), focals_px)


def image_confidence(maps: GraphMaps) -> NDArray[np.float64]:
    """(n, h, w): the largest confidence that any edge has for a pixel."""
    largest = np.zeros((maps.count, *maps.conf_i.shape[1:]))
    for (i, j), conf_i, conf_j in zip(maps.edges, maps.conf_i, maps.conf_j, strict=True):
        largest[i] = np.maximum(largest[i], conf_i)
        largest[j] = np.maximum(largest[j], conf_j)
    return largest


def edge_similarity(maps: GraphMaps, edge: int, points_world: NDArray[np.float64]) -> Similarity:
    """World from edge, fitted to the points (h, w, 3) of its image i, weighed by confidence."""
    return _register(maps.points_i[edge], points_world, maps.conf_i[edge])


def _tree_order(maps: GraphMaps) -> list[int]:
    """Edges of the maximum spanning tree, each touching one before it, the strongest first (Prim)."""
    scores = maps.scores
    strongest = np.argsort(-scores, kind="stable")
    reached = {int(maps.edges[strongest[0], 0])}
    order: list[int] = []
    while len(reached) < maps.count:
        within = np.isin(maps.edges[strongest], list(reached))
        crossing = strongest[within[:, 0] != within[:, 1]] if order else strongest
        edge = next(iter(crossing), None)
        if edge is None:
            raise ValueError(f"expected a connected pair graph, got {len(reached)} of {maps.count} images in one piece")
        order.append(int(edge))
        reached |= {int(image) for image in maps.edges[edge]}
    return order


def _attach(
    maps: GraphMaps, edge: int, points: dict[int, NDArray[np.float64]], poses: dict[int, NDArray[np.float64]]
) -> None:
    """Place what an edge adds to what is placed already; its camera i gets a pose, camera j only points."""
    i, j = (int(image) for image in maps.edges[edge])
    if not points:
        points[i], poses[i] = np.asarray(maps.points_i[edge], np.float64), np.eye(4)
        points[j] = np.asarray(maps.points_j[edge], np.float64)
        return
    if i in points:
        fit = edge_similarity(maps, edge, points[i])
        points[j] = fit.apply(maps.points_j[edge])
    else:
        fit = _register(maps.points_j[edge], points[j], maps.conf_j[edge])
        points[i] = fit.apply(maps.points_i[edge])
    poses.setdefault(i, pose_from(fit.rotation, fit.translation))


def _register(source: FloatMaps, target: NDArray[np.float64], confidence: FloatMaps) -> Similarity:
    """Similarity between two maps (h, w, 3) of one image."""
    return align_similarity(source.reshape(-1, 3), target.reshape(-1, 3), np.asarray(confidence, np.float64).ravel())


def _focals(maps: GraphMaps, known_px: float | None) -> NDArray[np.float64]:
    """(n,) focal length of each image, from its strongest edge as image i; those that never are take the mean."""
    if known_px is not None:
        return np.full(maps.count, known_px)
    height, width = maps.conf_i.shape[1:]
    found: dict[int, float] = {}
    for edge in np.argsort(-maps.scores, kind="stable"):
        image = int(maps.edges[edge, 0])
        if image not in found:
            found[image] = focal_by_irls(maps.points_i[edge], half_size_principal_point(height, width))
    mean_px = float(np.mean(list(found.values())))
    return np.array([found.get(image, mean_px) for image in range(maps.count)])


def _pose_on_points(
    points_world: NDArray[np.float64], confident: NDArray[np.bool_], focal_px: float
) -> NDArray[np.float64]:
    """World from camera (4, 4) of an image by PnP on its points; the identity where that fails, as published."""
    height, width = confident.shape
    cx, cy = half_size_principal_point(height, width)
    matrix = np.array([[focal_px, 0, cx], [0, focal_px, cy], [0, 0, 1.0]])
    solved = solve_pose(
        pixel_grid(height, width)[confident],
        points_world[confident],
        matrix,
        threshold_px=PNP_THRESHOLD_PX,
        iterations=PNP_ITERATIONS,
        seed=PNP_SEED,
    )
    return solved.reference_from_camera if isinstance(solved, PnpSolution) else np.eye(4)
