"""Files are read back as they were written, and the page works in a real browser."""

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.sinks.point_files import read_ply, write_ply, write_whole
from pomato_ros.sinks.trajectory_files import read_tum, write_colmap, write_kitti, write_tum
from pomato_ros.sinks.web_page import PageContent, write_page

POSES = np.stack([pose_exp(np.array([0.1 * t, 0, 0.3 * t, 0, 0.1 * t, 0])) for t in range(4)])
STAMPS = np.array([1_000_000_007, 1_033_333_340, 1_066_666_673, 1_100_000_006])
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def test_points_survive_a_ply_file(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    colours = np.arange(150, dtype=np.uint8).reshape(50, 3)
    write_ply(tmp_path / "a.ply", points, colours)
    assert all(np.array_equal(a, b) for a, b in zip(read_ply(tmp_path / "a.ply"), (points, colours), strict=True))
    (tmp_path / "b.ply").write_text("solid cube")
    with pytest.raises(ValueError, match="binary PLY"):
        read_ply(tmp_path / "b.ply")


def test_a_trajectory_survives_to_the_nanosecond(tmp_path: Path) -> None:
    write_tum(tmp_path / "t.tum", STAMPS, POSES)
    stamps, poses = read_tum(tmp_path / "t.tum")
    assert np.array_equal(stamps, STAMPS)
    assert np.allclose(poses, POSES, atol=1e-8)


def test_kitti_rows_begin_at_the_first_camera(tmp_path: Path) -> None:
    write_kitti(tmp_path / "k.txt", POSES[1:])
    rows = np.loadtxt(tmp_path / "k.txt").reshape(-1, 3, 4)
    assert np.allclose(rows[0], np.eye(4)[:3])
    assert np.allclose(rows[1], (np.linalg.inv(POSES[1]) @ POSES[2])[:3])


def test_a_colmap_model_projects_as_ours(tmp_path: Path) -> None:
    matrix = np.array([[50.0, 0, 31.5], [0, 50.0, 23.5], [0, 0, 1]])
    names = [f"{t}.png" for t in range(4)]
    write_colmap(tmp_path, names, POSES, matrix, (64, 48), np.array([[0.1, 0.2, 3.0]]), np.array([[1, 2, 3]], np.uint8))
    camera = (tmp_path / "cameras.txt").read_text().splitlines()[1].split()
    assert camera[1:4] == ["PINHOLE", "64", "48"]
    assert [float(v) for v in camera[4:]] == [50, 50, 32, 24]
    image = (tmp_path / "images.txt").read_text().splitlines()[4].split()
    assert image[-1] == "1.png"
    assert np.allclose([float(v) for v in image[5:8]], np.linalg.inv(POSES[1])[:3, 3])
    assert (tmp_path / "points3D.txt").read_text().splitlines()[1].split()[4:7] == ["1", "2", "3"]


def test_a_file_is_never_half(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "x.txt", "new")
    assert (tmp_path / "deep" / "x.txt").read_text() == "new"
    assert not list(tmp_path.rglob("*.part"))


def page(path: Path) -> None:
    draw = np.random.default_rng(0)
    static = draw.uniform((-1, -1, 1), (1, 1, 3), (5000, 3))
    moving = [draw.normal(size=(200, 3)) * 0.1 + (0.4 * t - 0.6, 0, 1.5) for t in range(4)]
    red, green = (np.tile(np.array([colour], np.uint8), (5000, 1)) for colour in ((230, 20, 20), (20, 230, 20)))
    content = PageContent("</script> & a title", static, red, moving, [green[:200]] * 4, POSES, STAMPS, {"frames": "4"})
    write_page(path, content)


def test_the_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    page(tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "http://" not in text
    assert "https://" not in text
    stored = text[text.index("const data = ") + 13 : text.index(";\nconst bytes")]
    data = json.loads(stored)
    assert data["title"] == "</script> & a title"
    assert data["movingEnds"] == [200, 400, 600, 800]
    assert len(data["cameras"]) == 4


def test_a_browser_draws_the_page(tmp_path: Path) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    page(tmp_path / "index.html")
    picture = tmp_path / "page.png"
    command = [browser, "--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    command += ["--enable-unsafe-swiftshader", "--window-size=800,600", "--virtual-time-budget=3000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}", f"file://{tmp_path}/index.html"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    blue, green, red = cv2.split(cv2.imread(str(picture)).astype(int))
    assert ((red > 150) & (green < 90)).sum() > 1000  # the static cloud
    assert ((green > 150) & (red < 90)).sum() > 10  # what moves
    assert ((blue > 200) & (red < 140)).sum() > 10  # cameras
