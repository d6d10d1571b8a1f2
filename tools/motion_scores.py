"""Scores of the motion segmentation alone: moving masks against truth, and its time beside that of optical flow.

    python tools/motion_scores.py --sequences 6 --davis DIR

Rendered sequences at 320x240 with a simulated depth camera and true poses that are made to err; videos of DAVIS without
depth, pose or calibration. Seeds begin where nothing was tuned.
"""

import dataclasses
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from pomato_ros.config import FlowTuning
from pomato_ros.evaluation.davis import ASSUMED_FOCAL, find_sequences, read_image, read_mask
from pomato_ros.evaluation.metrics.masks import intersection_over_union, region_similarity
from pomato_ros.geometry.rigid import compose, invert, pose_exp
from pomato_ros.scene.flow import FlowCache
from pomato_ros.scene.motion import MotionSegmenter
from pomato_ros.structures import Correspondence, DepthMap, Intrinsics, MaskArray, PoseArray, PosePrior
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.sensors import KINECT, sense_depth
from pomato_ros.synthetic.world import DRIVING_WORLD, LOOKS_WORLD, MAJORITY_WORLD, TRAIN_WORLD, render_clip
from pomato_ros.training.config import HELD_OUT_SEED

SKIPPED_SEEDS = 700_000
FRAMES, SIZE_WH = 24, (320, 240)
FIRST_SCORED = 2  # frames before have too few others to compare with
POSE_STD = np.array([0.002] * 3 + [np.radians(0.1)] * 3)  # m, rad
STEP_INVERSE_STD = KINECT.inverse_step_per_m / np.sqrt(12.0)  # 1/m, of the sensor's quantisation
NOTHING_MOVES = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0)
WORLDS = {
    "same": TRAIN_WORLD,
    "nothing": NOTHING_MOVES,
    "majority": MAJORITY_WORLD,
    "looks": LOOKS_WORLD,
    "driving": DRIVING_WORLD,
}
LEAST_MOVING = 0.002  # share of a sequence's pixels below which it has no IoU
DAVIS_SIDE_PX = 384


@dataclasses.dataclass(frozen=True, slots=True)
class SequenceScore:
    """One rendered sequence."""

    iou: float  # NaN where next to nothing moves
    false_share: float  # of all pixels, called moving though at rest


def main(
    sequences: Annotated[int, typer.Option(help="Rendered sequences of each world; 0: none.")] = 6,
    davis: Annotated[Path | None, typer.Option(help="Folder of DAVIS sequences.")] = None,
    timing: Annotated[bool, typer.Option(help="Also the time of flow and segmentation.")] = True,
) -> None:
    """Print scores as JSON, one line each."""
    for mode in ("depth", "mono") if sequences else ():
        for world in WORLDS:
            count = (sequences + 1) // 2 if world == "driving" else sequences
            scores = [score_clip(clip, mode == "depth") for clip in clips(world, count)]
            ious = [score.iou for score in scores if np.isfinite(score.iou)]
            emit(
                set=f"{mode} {world}",
                sequences=len(scores),
                iou=float(np.mean(ious)) if ious else None,
                false_percent=100 * float(np.mean([score.false_share for score in scores])),
            )
    for folder in find_sequences(davis) if davis is not None else ():
        emit(set=f"davis {folder.name}", **dataclasses.asdict(score_davis(folder)))
    for scale, preset in ((1, "fast"), (1, "medium"), (2, "fast"), (2, "medium")) if timing else ():
        emit(set=f"ms a frame at {scale * SIZE_WH[0]}x{scale * SIZE_WH[1]}, {preset}", **times(scale, preset))


def emit(**values: object) -> None:
    """Print one line."""
    typer.echo(json.dumps(values))


def clips(world: str, count: int) -> Iterator[Clip]:
    """Sequences that nothing was tuned on."""
    for seed in range(HELD_OUT_SEED + SKIPPED_SEEDS, HELD_OUT_SEED + SKIPPED_SEEDS + count):
        yield render_clip(seed, WORLDS[world], FRAMES, SIZE_WH)


def depth_map(clip: Clip, t: int) -> DepthMap:
    """What a simulated depth camera measures in frame ``t``."""
    depth_m = sense_depth(clip, t)
    valid = np.isfinite(depth_m)
    inverse = np.where(valid, 1.0 / np.where(valid, depth_m, 1.0), 0.0).astype(np.float32)
    sigma_m = KINECT.sigma_a_m + KINECT.sigma_b_per_m * (np.where(valid, depth_m, 1.0) - KINECT.sigma_c_m) ** 2
    sigma = np.hypot(sigma_m * inverse**2, STEP_INVERSE_STD)
    return DepthMap(inverse, sigma.astype(np.float32), valid, metric=True)


def masks_of(clip: Clip, with_depth: bool) -> list[MaskArray]:
    """The moving mask of each frame, by poses that err by POSE_STD."""
    flow, segmenter, poses = FlowCache(), MotionSegmenter(), clip.world_from_camera.numpy()
    draws, masks = np.random.default_rng(0), []
    for t in range(len(clip)):
        gray = cv2.cvtColor(clip.images[t].numpy(), cv2.COLOR_RGB2GRAY)
        flow.push(clip.stamps_ns[t], gray)

        def pose(gap: int, t: int = t) -> PosePrior:
            error = pose_exp(POSE_STD * draws.standard_normal(6))
            true = compose(invert(poses[t - gap]), poses[t])
            return PosePrior(gap, compose(error, true), np.diag(POSE_STD**2))

        depth = depth_map(clip, t) if with_depth else None
        masks.append(segmenter.update(gray, clip.intrinsics, flow.correspondence, depth=depth, pose=pose).mask)
    return masks


def score_clip(clip: Clip, with_depth: bool) -> SequenceScore:
    """The masks of a rendered sequence against its truth."""
    predicted = np.stack(masks_of(clip, with_depth))[FIRST_SCORED:]
    truth = np.stack([clip.moving(t).numpy() for t in range(FIRST_SCORED, len(clip))])
    iou = intersection_over_union(predicted, truth) if truth.mean() > LEAST_MOVING else float("nan")
    return SequenceScore(iou, float((predicted & ~truth).mean()))


@dataclasses.dataclass(frozen=True, slots=True)
class VideoScore:
    """One video."""

    j_mean: float
    recall: float


def score_davis(folder: Path) -> VideoScore:
    """Masks from flow alone, with a focal length of ASSUMED_FOCAL long sides."""
    flow, segmenter, masks = FlowCache(), MotionSegmenter(), []
    for index, file in enumerate(sorted((folder / "images").glob("*.jpg"))):
        image = read_image(file)
        factor = DAVIS_SIDE_PX / max(image.shape[:2])
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        height, width = gray.shape
        focal_px = ASSUMED_FOCAL * max(height, width)
        camera = Intrinsics(focal_px, focal_px, 0.5 * (width - 1), 0.5 * (height - 1), width, height)
        flow.push(index, gray)
        mask = segmenter.update(gray, camera, flow.correspondence).mask
        masks.append(cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)
    truth = [read_mask(file) for file in sorted((folder / "masks").glob("*.png"))]
    similarity = region_similarity(np.stack(masks[1:-1]), np.stack(truth[1:-1]))
    return VideoScore(similarity.mean, similarity.recall)


def times(scale: int, preset: str) -> dict[str, float]:
    """Median processor ms a frame: a call of DIS (fast), the flow of a step, flow and segmentation together."""
    cv2.setNumThreads(1)
    clip = next(clips("same", 1))
    size_wh = scale * SIZE_WH[0], scale * SIZE_WH[1]
    k = clip.intrinsics
    camera = Intrinsics(scale * k.fx_px, scale * k.fy_px, scale * k.cx_px, scale * k.cy_px, *size_wh)
    grays = [cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size_wh) for image in clip.images.numpy()]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow, twin = FlowCache(FlowTuning(preset=preset)), FlowCache(FlowTuning(preset=preset))
    segmenter, poses = MotionSegmenter(), clip.world_from_camera.numpy()
    rows = []
    for t, gray in enumerate(grays):
        asked: list[int] = []
        pose = partial(_true_pose, poses, t)
        depth = _enlarged(depth_map(clip, t), size_wh)
        clock = [time.process_time()]
        flow.push(t, gray)
        segmenter.update(gray, camera, partial(_recorded, flow, asked), depth=depth, pose=pose)
        clock.append(time.process_time())
        twin.push(t, gray)
        for gap in asked:
            twin.correspondence(gap)
        clock.append(time.process_time())
        dis.calc(gray, grays[max(0, t - 1)], None)
        rows.append(np.diff([*clock, time.process_time()]))
    total, alone, call = 1e3 * np.median(rows[9:], axis=0)
    return {"dis_fast_call": float(call), "flow": float(alone), "flow_and_motion": float(total)}


def _true_pose(poses: PoseArray, t: int, gap: int) -> PosePrior:
    """The newest camera in an earlier one."""
    return PosePrior(gap, compose(invert(poses[t - gap]), poses[t]), np.diag(POSE_STD**2))


def _recorded(flow: FlowCache, asked: list[int], gap: int) -> Correspondence | None:
    """A correspondence, its gap noted."""
    asked.append(gap)
    return flow.correspondence(gap)


def _enlarged(depth: DepthMap, size_wh: tuple[int, int]) -> DepthMap:
    """The nearest pixels of a depth map at another size."""
    inverse, sigma, valid = (
        cv2.resize(array, size_wh, interpolation=cv2.INTER_NEAREST)
        for array in (depth.inverse_depth, depth.sigma, depth.valid.astype(np.uint8))
    )
    return DepthMap(inverse, sigma, valid > 0, depth.metric)


if __name__ == "__main__":
    typer.run(main)
