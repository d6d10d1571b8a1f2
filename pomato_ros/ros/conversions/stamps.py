"""Time stamps as integers: a stamp that passes through a float comes back changed."""

from builtin_interfaces.msg import Time

NANOSECONDS_PER_SECOND = 1_000_000_000


def stamp_ns_from_time(time: Time) -> int:
    """Nanoseconds of a message's time."""
    return int(time.sec) * NANOSECONDS_PER_SECOND + int(time.nanosec)


def time_from_stamp_ns(stamp_ns: int) -> Time:
    """The message's time of ``stamp_ns`` nanoseconds; exact."""
    sec, nanosec = divmod(int(stamp_ns), NANOSECONDS_PER_SECOND)
    return Time(sec=sec, nanosec=nanosec)
