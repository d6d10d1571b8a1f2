"""One chunk of frames, aligned as a whole: pairs, moving pixels, the objective's minimum, dense depth."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.mapping.chunk_result import ChunkResult
from pomato_ros.mapping.dense_depth import clean_confidence, median_depth
from pomato_ros.mapping.image_flow import measure_flow
from pomato_ros.mapping.objective import EdgePointmaps, MeasuredFlow
from pomato_ros.mapping.optimiser import FlowOf, solve, start_variables
from pomato_ros.mapping.options import AlignmentOptions, PairOptions
from pomato_ros.mapping.pair_graph import pair_graph
from pomato_ros.mapping.pair_prediction import PairPredictor
from pomato_ros.mapping.spanning_tree import GraphMaps, image_confidence, start_from_tree
from pomato_ros.mapping.variables import AlignmentVariables, centred_grid, transform_points
from pomato_ros.pointmap_scene.motion_mask import motion_mask
from pomato_ros.sources.dust3r.prediction import PairPrediction
from pomato_ros.structures import PreparedFrame

FLOW_GAP = 3  # frames; optical flow between images farther apart is not measured
MOVING_SHARE = 0.5  # of the edges that see a pixel


def align_chunk(
    frames: Sequence[PreparedFrame],
    predictor: PairPredictor,
    pair_options: PairOptions,
    options: AlignmentOptions,
    advance: Callable[[], None] = lambda: None,
) -> ChunkResult:
    """Global alignment of ``frames``; calibrated where all of them are.

    Raises:
        ConfigError: fewer than two frames.
    """
    descriptors = predictor.descriptors(frames) if pair_options.graph == "retrieval" else None
    edges = pair_graph(len(frames), pair_options, descriptors)
    predicted = predictor.predict_pairs(frames, edges)
    moving_edges = _moving_pixels(predicted, options)
    moving = _moving_images(moving_edges, edges, len(frames))
    graph = graph_maps(edges, predicted)
    known = frames[0].intrinsics
    focal_px = None if known is None else (known.fx_px + known.fy_px) / 2
    start = start_variables(start_from_tree(graph, options.min_confidence, focal_px), graph, options.shared_focal)
    height, width = graph.conf_i.shape[1:]
    stride = pixel_stride(height, width, options.pixels)
    centre = (width / 2, height / 2) if known is None else (known.cx_px, known.cy_px)
    flow = _image_flow(frames, edges, ~moving, stride) if options.flow_weight else None
    result = solve(
        thinned(start, centre, stride), _pairs(graph, moving_edges, stride), options, flow, known is not None, advance
    )
    variables = AlignmentVariables(*result.variables.leaves())
    matrix = _camera_matrix(float(variables.focals_px()[0]), centre)
    depth = _dense_depth(variables, graph, moving_edges)
    confidence = torch.from_numpy(image_confidence(graph)).float()
    poses = variables.world_from_camera()
    cleaned = clean_confidence(depth, confidence, poses, torch.from_numpy(matrix).float())
    return ChunkResult(
        images_rgb=np.stack([frame.image_rgb for frame in frames]),
        metric=False,
        stamps_ns=np.array([frame.stamp_ns for frame in frames], np.int64),
        world_from_camera=poses.double().numpy(),
        camera_matrix=matrix,
        depth=np.asarray(depth, np.float32),
        confidence=cleaned,
        moving=moving,
        cost=(result.first_cost, result.last_cost),
    )


def graph_maps(edges: NDArray[np.int64], predicted: PairPrediction) -> GraphMaps:
    """The two reconstruction maps of every edge."""
    maps = (predicted.points_1, predicted.points_2, predicted.conf_1, predicted.conf_2)
    points_i, points_j, conf_i, conf_j = (each.numpy() for each in maps)
    return GraphMaps(edges, points_i, points_j, conf_i, conf_j)


def pixel_stride(height: int, width: int, most_pixels: int) -> int:
    """Every how many pixels are aligned so that an image has at most ``most_pixels`` of them."""
    return max(1, math.ceil(math.sqrt(height * width / most_pixels)))


def thinned(variables: AlignmentVariables, centre: tuple[float, float], stride: int) -> AlignmentVariables:
    """The unknowns at every ``stride``-th pixel of images with the principal point ``centre`` (x, y)."""
    height, width = variables.log_depth.shape[1:]
    shift = variables.log_depth.new_tensor([width / 2 - centre[0], height / 2 - centre[1]])
    grid = centred_grid(height, width, variables.log_depth) + shift
    part = slice(stride // 2, None, stride)
    log_depth = variables.log_depth[:, part, part]
    return AlignmentVariables(log_depth, variables.poses, variables.focals, variables.edges, grid[part, part])


def _moving_pixels(predicted: PairPrediction, options: AlignmentOptions) -> Tensor:
    """(e, h, w): pixels of j that the matching pointmap finds elsewhere at the time of i (POMATO, eq. 5)."""
    if not options.mask_moving:
        return torch.zeros(predicted.conf_2.shape, dtype=torch.bool)
    return motion_mask(predicted.points_2, predicted.points_match, options.moving_threshold, floor=options.moving_floor)


def _moving_images(moving_edges: Tensor, edges: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(n, h, w): pixels that half of the edges find moving."""
    votes = np.zeros((count, *moving_edges.shape[1:]))
    np.add.at(votes, edges[:, 1], moving_edges.numpy())
    seen = np.bincount(edges[:, 1], minlength=count)
    return votes > MOVING_SHARE * np.maximum(seen, 1)[:, None, None]


def _pairs(graph: GraphMaps, moving_edges: Tensor, stride: int) -> EdgePointmaps:
    """The objective's input: log confidence as weight, none where a pixel moves."""
    part = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    points_i, points_j, conf_i, conf_j = (
        torch.from_numpy(np.asarray(each))[part]
        for each in (graph.points_i, graph.points_j, graph.conf_i, graph.conf_j)
    )
    weights_j = torch.where(moving_edges[part], 0.0, conf_j.log())
    return EdgePointmaps(torch.from_numpy(graph.edges), points_i, points_j, conf_i.log(), weights_j)


def _image_flow(
    frames: Sequence[PreparedFrame], edges: NDArray[np.int64], static: NDArray[np.bool_], stride: int
) -> FlowOf | None:
    """Optical flow along the edges between neighbours in time; None where the graph has none."""
    near = edges[(edges[:, 0] < edges[:, 1]) & (edges[:, 1] - edges[:, 0] <= FLOW_GAP)]
    if not len(near):
        return None
    measured = measure_flow([frame.image_rgb for frame in frames], near, static, stride)

    def flow(_: AlignmentVariables) -> MeasuredFlow:
        return measured

    return flow


def _dense_depth(variables: AlignmentVariables, graph: GraphMaps, moving_edges: Tensor) -> Tensor:
    """(n, h, w): every pixel's median depth over all edges, what moves between the two images only from its own."""
    poses, world_from_edge = variables.world_from_camera(), variables.world_from_edge()
    world_i = transform_points(world_from_edge, torch.from_numpy(np.asarray(graph.points_i)))
    world_j = transform_points(world_from_edge, torch.from_numpy(np.asarray(graph.points_j)))
    weights_i = torch.from_numpy(np.asarray(graph.conf_i)).log()
    weights_j = torch.where(moving_edges, 1e-6, torch.from_numpy(np.asarray(graph.conf_j)).log())
    depth = []
    for image in range(graph.count):
        first, second = (np.flatnonzero(graph.edges[:, side] == image) for side in (0, 1))
        points = [*world_i[first], *world_j[second]]
        depth.append(median_depth(points, [*weights_i[first], *weights_j[second]], poses[image]))
    return torch.stack(depth)


def _camera_matrix(focal_px: float, centre: tuple[float, float]) -> NDArray[np.float64]:
    return np.array([[focal_px, 0, centre[0]], [0, focal_px, centre[1]], [0, 0, 1.0]])
