"""What is loaded stays out of the garbage collector's rounds until it may go."""

import gc
import weakref

from pomato_ros.ros.settling import settle, unsettle


class Node:
    """Something that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_settled_is_not_looked_at_and_goes_once_it_may() -> None:
    loaded = Node()
    gone = weakref.ref(loaded)
    settle()
    try:
        assert gc.get_freeze_count() > 0
        del loaded
        gc.collect()
        assert gone() is not None
        fresh = Node()
        fresh_gone = weakref.ref(fresh)
        del fresh
        gc.collect()
        assert fresh_gone() is None
    finally:
        unsettle()
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() == 0
