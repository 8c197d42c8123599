"""The command line as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.cli.up import MAX_LOG, set_aside

BIN = Path(sys.executable).parent
COMMANDS = ("up", "down", "status", "quickstart", "doctor", "logs", "token", "dashboard", "user", "run", "runs")


def headrace(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "headrace"), *args], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(name: str) -> None:
    done = headrace(name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout
    assert f"headrace {name}" in done.stdout or name == "token"


def test_help_lists_every_command() -> None:
    text = headrace("--help").stdout
    for name in COMMANDS:
        assert name in text


def test_status_without_a_platform_says_how_to_start_one(tmp_path: Path) -> None:
    done = headrace("status", "--home", str(tmp_path / "none"))
    assert done.returncode == 3
    assert "headrace up" in done.stdout
    assert json.loads(headrace("status", "--json", "--home", str(tmp_path / "none")).stdout)["running"] is False


@pytest.mark.parametrize("words", ["runs", "user list", "status --kubeconfig"])
def test_who_needs_a_platform_hears_how_to_start_that_one(tmp_path: Path, words: str) -> None:
    home = str(tmp_path / "none")
    assert f"`headrace up --detach --home {home}`" in headrace(*words.split(), "--home", home).stderr


def test_a_program_is_no_pipeline_yet(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("import kfp\n")
    done = headrace("run", "--home", str(tmp_path / "none"), str(tmp_path / "p.py"))
    assert f"`kfp dsl compile --py {tmp_path / 'p.py'} --output {tmp_path / 'p.yaml'}`" in done.stderr


def test_down_without_a_platform_is_no_error(tmp_path: Path) -> None:
    done = headrace("down", "--home", str(tmp_path / "none"))
    assert done.returncode == 0, done.stderr
    assert "No platform runs" in done.stdout


def test_a_home_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"version": 99, "ports": {}}')
    done = headrace("status", "--home", str(tmp_path))
    assert done.returncode == 1
    assert "version 99" in done.stderr


def test_the_mode_of_pods_is_remembered_and_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"version": 1, "ports": {}, "mode": "bare"}')
    said = headrace("doctor", "--home", str(tmp_path)).stdout
    assert "mode sandbox is possible too: headrace up --mode sandbox" in said
    assert "mode bare as " in said
    assert "which this home has chosen" in said
    done = headrace("up", "--home", str(tmp_path), "--mode", "magic")
    assert done.returncode == 2
    assert "'auto', 'sandbox', 'bare'" in done.stderr


def test_the_log_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "headrace.log"
    set_aside(log)
    log.write_bytes(b"x" * MAX_LOG)
    set_aside(log)
    assert log.exists()
    log.write_bytes(b"y" * (MAX_LOG + 1))
    set_aside(log)
    assert [p.name for p in tmp_path.iterdir()] == ["headrace.log.1"]


def test_equal_ports_are_refused(tmp_path: Path) -> None:
    done = headrace("up", "--home", str(tmp_path), "--api-port", "7001", "--gateway-port", "7001")
    assert done.returncode == 2
    assert "must differ" in done.stderr


@pytest.mark.node
def test_a_taken_port_is_named_with_its_holder(platform, tmp_path: Path) -> None:
    done = headrace("up", "--detach", "--home", str(tmp_path), *(f"--{n}-port={p}" for n, p in platform.ports.items()))
    assert done.returncode == 1
    assert f"port {platform.ports['api']} (api) is held by pid {platform.pid}" in done.stderr
    assert "--api-port" in done.stderr


@pytest.mark.node
def test_a_second_start_of_the_same_home_says_that_it_runs(platform) -> None:
    assert "runs already" in platform.headrace("up", "--detach").stdout
    foreground = platform.headrace("up", check=False)
    assert foreground.returncode == 1
    assert f"pid {platform.pid}" in foreground.stderr


@pytest.mark.node
def test_status_tells_components_memory_and_addresses(platform) -> None:
    facts = json.loads(platform.headrace("status", "--json").stdout)
    assert facts["ready"] is True
    assert {"pipelines", "serving", "objectstore"} <= set(facts["components"])
    assert facts["memory_mb"] > 10
    text = platform.headrace("status").stdout
    assert str(platform.ports["gateway"]) in text
    assert "pipelines" in text


@pytest.mark.node
def test_doctor_finds_this_machine_fit(platform) -> None:
    done = platform.headrace("doctor")
    assert "mode sandbox" in done.stdout
    assert "FAIL" not in done.stdout


@pytest.mark.node
def test_logs_show_a_pod_that_has_ended(platform) -> None:
    platform.kubectl("run", "hello", "--image=busybox", "--restart=Never", "--", "echo", "hello from a pod")
    platform.kubectl("wait", "pod/hello", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert platform.headrace("logs", "default/hello").stdout == "hello from a pod\n"
    assert "hello from a pod" in platform.kubectl("logs", "hello")
    missing = platform.headrace("logs", "default/nobody", check=False)
    assert missing.returncode == 1
    assert 'pods "nobody" not found' in missing.stderr
