"""The documentation builds without a warning, and what it shows can be run: options, arguments, parameters, code."""

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pomato_ros.cli.main import COMMANDS
from pomato_ros.config import PomatoConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])
OTHERS = ("input", "pomato", "differential", "bond_timeout")  # status messages, and parameters of other nodes
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            if found == language:
                yield page, text


def shell_lines() -> list[tuple[str, list[str]]]:
    """Every command line that the pages show, with the page's name."""
    lines = []
    for page, text in blocks("sh"):
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            lines.append((page.name, shlex.split(line, comments=True)))
    return [(page, words) for page, words in lines if words]


def spoken(command: str) -> list[tuple[str, list[str]]]:
    """The words after ``command`` in each line that uses it."""
    return [
        (page, words[index + 1 :])
        for page, words in shell_lines()
        for index, word in enumerate(words)
        if Path(word).name == command and index < 2
    ]


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("mkdocs is not installed (make setup brings it, or pip install '.[docs]')")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    page = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "world_from_camera" in page  # the reference is read from the sources
    assert "fonts.googleapis.com" not in page


def test_every_page_is_in_the_sites_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = {page for entry in menu for page in entry.values()}
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


def test_every_pomato_command_that_is_shown_exists_with_its_options() -> None:
    shown = spoken("pomato")
    assert shown
    for page, (name, *rest) in ((page, words) for page, words in shown if words):
        if name.startswith("-"):
            continue
        assert name in COMMANDS, (page, name)
        module = COMMANDS[name].target.partition(":")[0].replace(".", "/")
        source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
        known = {argument.arg for node in ast.walk(ast.parse(source)) for argument in arguments_of(node)}
        for option in (word.partition("=")[0] for word in rest if word.startswith("--") and word != "--ros-args"):
            assert option[2:].replace("-", "_") in known or f'"{option}"' in source, (page, name, option)


def arguments_of(node: ast.AST) -> list[ast.arg]:
    return [*node.args.args, *node.args.kwonlyargs] if isinstance(node, ast.FunctionDef) else []


def test_every_launch_argument_that_is_shown_is_declared() -> None:
    source = (ROOT / "launch" / "pomato.launch.py").read_text(encoding="utf-8")
    shown = spoken("ros2")
    names = {word.partition(":=")[0] for _, words in shown if words[0] == "launch" for word in words if ":=" in word}
    assert {"demo", "video", "bag", "namespace"} <= names
    assert {name for name in names if f'"{name}"' not in source} == set()


def test_every_make_target_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for _, words in spoken("make") for word in words if word.isalpha() and word.islower()}
    assert {"test", "demo"} <= targets
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()


def test_python_that_is_shown_runs() -> None:
    """Blocks define what they show; the one of the first page is called on images."""
    names: dict[str, object] = {}
    for page, text in blocks("python"):
        exec(compile(text, str(page), "exec"), names)  # noqa: S102 - our own pages
    frames = importlib.import_module("numpy").zeros((2, 96, 128, 3), "uint8")
    results = list(names["perceive"](frames, [0, 10**8], 100.0))  # type: ignore[operator]
    assert [depth.ndim for depth, _, _ in results] == [2, 2]


def test_parameters_that_are_shown_exist() -> None:
    flat = set(PomatoConfig().flat())
    for page in PAGES:
        for name in re.findall(r"`([a-z][a-z0-9_]+): [^`]*`", page.read_text(encoding="utf-8")):
            assert name in flat or name in OTHERS, (page.name, name)


def test_every_key_of_the_diagnostics_is_explained() -> None:
    keys = pytest.importorskip("pomato_ros.ros.diagnostics", reason="needs the ROS messages").DIAGNOSTIC_KEYS
    text = (ROOT / "docs" / "diagnostics.md").read_text(encoding="utf-8")
    for component, named in keys.items():
        section = text.partition(f"\n## {component}\n")[2].partition("\n## ")[0]
        explained = re.findall(r"^\| `(\w+)` \| .{8,} \|$", section, re.MULTILINE)
        assert explained == list(named), component


def test_every_output_is_explained() -> None:
    topics = pytest.importorskip("pomato_ros.ros.topics", reason="needs the ROS messages")
    text = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    assert [topic.name for topic in topics.ALL_SCENE_OUTPUTS if f"`{topic.name}`" not in text] == []


def test_files_that_a_page_links_to_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)
