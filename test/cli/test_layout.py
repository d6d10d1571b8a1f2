import json
from pathlib import Path

import pytest
import typer
import yaml

from pomato_ros.cli.layout import layout, shared_file


def test_a_layout_is_written_for_the_node_that_is_named(tmp_path: Path) -> None:
    assert layout(node="/front/pomato", odom_frame="front_odom", out=tmp_path / "a.json") == 0
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text)["configById"]
    assert '"/pomato/' not in text
    assert '{name==\\"front/pomato: output\\"}' in text


def test_without_a_file_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert layout(kind="rviz", odom_frame="front_odom") == 0
    manager = yaml.safe_load(capsys.readouterr().out)["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] == "front_odom"


def test_a_viewer_that_is_not_known_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="foxglove, rviz"):
        layout(kind="gazebo")


def test_a_file_that_is_nowhere_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="config/nothing"):
        shared_file("config/nothing")
