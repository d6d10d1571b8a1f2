"""One set of weights through the whole evaluation, as a function: what training prints before and after."""

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.evaluate import evaluate_sequences, subject_of
from pomato_ros.evaluation.oracle import pointmap_engine
from pomato_ros.evaluation.report import FlatValue, summarise
from pomato_ros.evaluation.sequences import FRAMES, render_sequences
from pomato_ros.evaluation.splits import plan_split
from pomato_ros.sources.dust3r.checkpoint import Checkpoint
from pomato_ros.sources.dust3r.predictor import Predictor

EVERY_PIXEL = {"conf_threshold": 0.0}  # a depth that the network is not sure of counts too


def score_weights(
    checkpoint: Checkpoint,
    held_out_seed: int,
    sequences: int,
    *,
    frames: int = FRAMES,
    split: str = "same",
    device: str = "auto",
    threads: int = 0,
) -> dict[str, FlatValue]:
    """The flat summary of ``pomato evaluate`` for weights that are loaded already.

    Args:
        checkpoint: the network, and the size of its images.
        held_out_seed: where the seeds begin that training never draws.
        sequences: how many are run.
        frames: of each sequence.
        split: one of :data:`pomato_ros.evaluation.splits.SPLITS`.
        device: as the engine's option.
        threads: of the CPU; 0 takes all.

    Raises:
        ConfigError: the device is not there, or the weights see no window as long as the engine's.
        ValueError: sequences are shorter than tracks.
    """
    config = PomatoConfig().with_values({"device": device, "num_threads": threads, **EVERY_PIXEL})
    predictor = Predictor.of_checkpoint(checkpoint, config.model)
    size_px, patch_px = checkpoint.image_size_px, checkpoint.network.config.patch_size
    subject = subject_of(pointmap_engine(config, predictor), predictor, size_px, patch_px)
    plan = plan_split(split, held_out_seed, size_px, patch_px, sequences, frames)
    return summarise(evaluate_sequences(lambda clip: subject, render_sequences(plan)), plan.split)
