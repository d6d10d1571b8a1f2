"""The node with the engine of conftest.py, whose answers are known; run as a process by the tests.

An image whose first pixel is black ends the worker's thread, as a library that calls ``sys.exit`` would.
"""

import sys
import time

from conftest import FakeEngine

from pomato_ros.config import PomatoConfig
from pomato_ros.ros import node
from pomato_ros.structures import Frame, SceneEstimate


class KnownEngine(FakeEngine):
    """Sees a wall, unless the image is black; with the checkpoint `slow` it takes a minute to load."""

    def __init__(self, config: PomatoConfig) -> None:
        if config.model.checkpoint == "slow":
            time.sleep(60.0)
        super().__init__(config)

    def step(self, frame: Frame) -> SceneEstimate | None:
        if not frame.image_rgb[0, 0].any():
            sys.exit("a library gave up")
        return super().step(frame)


if __name__ == "__main__":
    node.DIAGNOSTICS_PERIOD_S = 0.1
    node.PomatoNode.__init__.__kwdefaults__["engine_factory"] = KnownEngine
    sys.exit(node.main())
