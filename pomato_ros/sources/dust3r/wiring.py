"""Which frames of a window are paired: the three uses of the temporal network, and the pairs the engine needs."""

from enum import Enum

from torch import Tensor

from pomato_ros.sources.dust3r.heads import WindowMaps
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.sources.dust3r.trunk import Trunk


class Wiring(Enum):
    """How view 1 and view 2 are chosen for every frame t of a window (paper, section 3.3)."""

    TRACKING = "tracking"  # view 1 = frame t, view 2 = the first frame
    VIDEO_DEPTH = "video_depth"  # view 1 = view 2 = frame t
    FAST_RECONSTRUCTION = "fast_recon"  # view 1 = the last frame, view 2 = frame t


def predict_wiring(network: Pomato, images: Tensor, wiring: Wiring) -> PairPrediction:
    """One window (or a batch of windows) under one wiring; every frame is encoded once.

    ``images``: (b, t, 3, h, w) -> predictions with b * t rows, batch-major.
    """
    batch, frames = images.shape[:2]
    tokens = network.encode(images.flatten(0, 1))
    windows = tokens.unflatten(0, (batch, frames))
    if wiring is Wiring.TRACKING:
        tokens_1, tokens_2 = windows, windows[:, :1]
    elif wiring is Wiring.VIDEO_DEPTH:
        tokens_1, tokens_2 = windows, windows
    else:
        tokens_1, tokens_2 = windows[:, -1:], windows
    rows_1, rows_2 = (part.expand_as(windows).flatten(0, 1) for part in (tokens_1, tokens_2))
    return network.predict(rows_1, rows_2, network.grid_of(images), frames)


def predict_window(network: Trunk, images: Tensor, key: int) -> WindowPrediction:
    """:func:`window_maps` as POMATO's three, whatever the network."""
    return network.prediction(window_maps(network, images, key), Wanted(tuple(range(len(images)))))


def window_maps(network: Trunk, images: Tensor, key: int) -> WindowMaps:
    """Both pair orders of one window against frame ``key``; the slow, complete twin of every faster path.

    ``images``: (t, 3, h, w). A pairwise network treats each pair on its own.
    """
    frames = images.shape[0]
    tokens = network.encode(images)
    keys = tokens[key : key + 1].expand_as(tokens)
    grid = network.grid_of(images)
    return WindowMaps(
        key=key,
        from_key=network.predict_maps(tokens, keys, grid, frames),
        to_key=network.predict_maps(keys, tokens, grid, frames),
    )
