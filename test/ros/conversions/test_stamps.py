import numpy as np

from pomato_ros.ros.conversions.stamps import stamp_ns_from_time, time_from_stamp_ns


def test_every_stamp_comes_back_unchanged() -> None:
    generator = np.random.default_rng(0)
    for stamp_ns in [0, 1, 999_999_999, 10**9, *generator.integers(0, 2**31 * 10**9, 2000).tolist()]:
        assert stamp_ns_from_time(time_from_stamp_ns(stamp_ns)) == stamp_ns
