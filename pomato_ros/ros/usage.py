"""The part of a program's help that argparse cannot know: its topics, its ROS parameters, and how to give them."""

from collections.abc import Iterable, Mapping

HOW = """\
how to set parameters and names:
  --ros-args -p NAME:=VALUE             one parameter
  --ros-args --params-file FILE.yaml    parameters from a file
  --ros-args -r image:=/camera/image    another topic for a name above
  --ros-args -r __ns:=/front            a namespace
  --ros-args --log-level debug          more messages
"""


def usage_text(topics: Iterable[tuple[str, str, str]], parameters: Mapping[str, tuple[str, str]]) -> str:
    """The help text of a ROS program.

    Args:
        topics: name, message type and meaning of each topic.
        parameters: default and meaning of each parameter by its name.
    """
    lines = ["topics:", *columns(topics), "", "parameters:"]
    lines += columns((name, f"[{default}]", text) for name, (default, text) in parameters.items())
    return "\n".join([*lines, "", HOW])


def columns(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Rows of three cells under each other."""
    kept = list(rows)
    widths = [max((len(row[column]) for row in kept), default=0) for column in (0, 1)]
    return [f"  {first:{widths[0]}}  {second:{widths[1]}}  {third}" for first, second, third in kept]
