import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from pomato_ros.cli import doctor
from pomato_ros.cli.system_check import Finding, check_command


def test_advice_names_each_command_once_with_all_it_mends() -> None:
    findings = [
        Finding("a", ok=False, found="gone", mend="fix both"),
        Finding("b", ok=True, found="here", mend="never needed"),
        Finding("c", ok=False, found="gone", mend="fix both"),
    ]
    assert doctor.advice(findings) == ["to mend:", "  fix both    # a, c"]


def test_nothing_missing_needs_no_advice() -> None:
    assert doctor.advice([Finding("a", ok=True, found="here")]) == ["everything is there"]


def test_a_check_that_cannot_import_becomes_a_finding() -> None:
    def check(name: str) -> Finding:
        raise ImportError("no such library")

    finding = doctor.guarded("library", check)
    assert not finding.ok
    assert finding.mend == doctor.SET_UP
    assert "no such library" in finding.found


def test_a_command_that_is_nowhere_names_its_debian_package() -> None:
    finding = check_command("compiler", ("no-such-command-anywhere",), "build-essential")
    assert not finding.ok
    assert "build-essential" in finding.mend


@pytest.mark.parametrize(("stored", "expected"), [("true hash", True), ("other hash", False)])
def test_weights_are_good_only_with_the_hash_stored_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str, expected: bool
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "nano.safetensors").write_bytes(b"weights")
    content = b"weights" if stored == "true hash" else b"something else"
    (folder / "nano.sha256").write_text(hashlib.sha256(content).hexdigest() + "  nano.safetensors\n")
    monkeypatch.setattr(doctor, "PACKAGE", tmp_path)
    assert doctor.check_weights("weights").ok is expected


def test_doctor_runs_on_the_standard_library_alone(repository_root: Path) -> None:
    # -S leaves out site-packages: what a fresh machine has before set-up.
    result = subprocess.run(
        [sys.executable, "-S", "-m", "pomato_ros.cli.doctor"],
        cwd=repository_root,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert "make setup" in result.stdout
    assert "Traceback" not in result.stderr


def test_messages_of_another_clone_are_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    here = doctor.check_messages("messages").found.split(",")[0]
    (tmp_path / "package.xml").write_text("<package/>")
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    finding = doctor.check_messages("messages")
    assert not finding.ok
    assert "another clone" in finding.found
    monkeypatch.setattr(doctor, "ROOT", Path(here).parents[1])
    assert doctor.check_messages("messages").ok


@pytest.mark.parametrize(("value", "good"), [("", True), ("0", True), ("232", True), ("abc", False), ("233", False)])
def test_a_domain_that_is_no_number_is_a_finding(monkeypatch: pytest.MonkeyPatch, value: str, good: bool) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", value)
    assert doctor.check_domain("domain").ok is good
