from pathlib import Path

import pytest
import yaml

from pomato_ros.cli.parameter_files import parameters_markdown, parameters_yaml
from pomato_ros.config import iter_options

OPTIONS = {info.name: info for info in iter_options()}


@pytest.mark.parametrize(
    ("path", "generate"), [("config/pomato.yaml", parameters_yaml), ("docs/parameters.md", parameters_markdown)]
)
def test_the_committed_file_is_what_the_config_gives(repository_root: Path, path: str, generate: object) -> None:
    assert callable(generate)
    committed = (repository_root / path).read_text(encoding="utf-8")
    assert committed == generate(), f"{path} is out of date; run: python -m pomato_ros.cli.parameter_files"


def test_the_yaml_reads_back_as_the_defaults_with_their_types() -> None:
    values = yaml.safe_load(parameters_yaml())["/**"]["ros__parameters"]
    assert values == {name: info.default for name, info in OPTIONS.items()}
    assert {name: type(value) for name, value in values.items()} == {
        name: type(info.default) for name, info in OPTIONS.items()
    }


def test_every_option_has_a_row_with_its_meaning() -> None:
    text = parameters_markdown()
    for name, info in OPTIONS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert info.description in row.replace("\\|", "|")
        assert row.count("|") - row.count("\\|") == 7
