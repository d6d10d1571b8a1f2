"""A quick look during training at held-out scenes; `pomato evaluate` is the full one."""

from functools import lru_cache

import torch
from torch import Tensor

from pomato_ros.config import SceneOptions
from pomato_ros.pointmap_scene.motion_mask import motion_mask
from pomato_ros.sources.dust3r.prediction import WindowPrediction
from pomato_ros.sources.dust3r.trunk import Trunk
from pomato_ros.sources.dust3r.wiring import predict_window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import WorldConfig, render_clip
from pomato_ros.training.config import HELD_OUT_SEED, Stage, TrainConfig
from pomato_ros.training.precision import training_precision

SCENES = 24
FRAMES = 6


@torch.inference_mode()
def validate(network: Trunk, config: TrainConfig, stage: Stage, device: torch.device) -> dict[str, float]:
    """Means over held-out scenes, network in the precision it trains in.

    ``absrel`` of the newest frame's own depth with one scale a scene, ``absrel_constant`` of the best constant depth,
    ``transfer`` relative error of X^{new, key}, ``transfer_still`` what standing still would give, ``motion`` error of
    X_m - X on moving pixels in shares of how far they moved (1: as good as predicting no motion), ``mask_iou``.
    """
    network.eval()
    clips = held_out_clips(config.world, config.shapes[0].size_wh)
    rows = [score_clip(network, clip, device) for clip in clips]
    scores = {name: float(torch.stack([row[name] for row in rows]).nanmean()) for name in rows[0] if "mask" not in name}
    intersection = torch.stack([row["mask_both"] for row in rows]).sum()
    union = torch.stack([row["mask_either"] for row in rows]).sum()
    matched = {"motion": scores["motion"], "mask_iou": float(intersection / union.clamp(min=1))}
    return {**scores, **(matched if stage.matching else {"motion": 1.0, "mask_iou": 0.0})}


@lru_cache(maxsize=1)
def held_out_clips(world: WorldConfig, size_wh: tuple[int, int]) -> list[Clip]:
    """The scenes that every look is at, rendered once a process."""
    return [render_clip(HELD_OUT_SEED + number, world, FRAMES, size_wh) for number in range(SCENES)]


def score_clip(network: Trunk, clip: Clip, device: torch.device) -> dict[str, Tensor]:
    """Scores of one clip seen as one window against its first frame."""
    images = (clip.images.permute(0, 3, 1, 2).float() / 127.5 - 1).to(device)
    with training_precision(device):
        prediction: WindowPrediction = predict_window(network, images, key=0)
    last = len(clip) - 1
    depth_true = clip.depth_m[last]
    depth = prediction.from_key.points_1[last, ..., 2].float().cpu().clamp(min=1e-3)
    scale = (depth_true / depth).median()
    transferred = prediction.to_key.points_2[last].cpu()
    transferred_true = clip.points_transferred(last, 0)
    factor = transferred_true.norm(dim=-1).median() / transferred.norm(dim=-1).median()
    mean = transferred_true.norm(dim=-1).mean()
    moving = clip.moving_mask(last, 0)
    moved_true = (clip.points_matched(last, 0) - transferred_true)[moving]
    rule = SceneOptions()
    matched = prediction.to_key.points_match[last].cpu()
    moved = (matched - transferred)[moving] * factor
    found = motion_mask(transferred, matched, rule.mask_threshold, rule.mask_floor)
    return {
        "absrel": ((depth * scale - depth_true).abs() / depth_true).mean(),
        "absrel_constant": ((depth_true.median() - depth_true).abs() / depth_true).mean(),
        "transfer": (transferred * factor - transferred_true).norm(dim=-1).mean() / mean,
        "transfer_still": (clip.points_camera(last) - transferred_true).norm(dim=-1).mean() / mean,
        "motion": (moved - moved_true).norm(dim=-1).mean() / moved_true.norm(dim=-1).mean(),
        "mask_both": (found & moving).sum(),
        "mask_either": (found | moving).sum(),
    }
