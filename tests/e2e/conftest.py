"""A platform of its own for these tests, started and stopped by the command line as a person would."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

# How browsers are driven, under names that the test modules can import.
for _part in ("axe", "browser", "firefox", "pages"):
    _name = f"e2e_{_part}"
    if _name not in sys.modules:
        _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_part}.py"))
        sys.modules[_name] = importlib.util.module_from_spec(_spec)
        _spec.loader.exec_module(sys.modules[_name])

BIN = Path(sys.executable).parent
NAMESPACE = "kubeflow-user-example-com"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots are kept: where CI collects them, or with the test's other files."""
    folder = Path(os.environ.get("HEADRACE_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class RunningPlatform:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = {name: free_port() for name in ("api", "gateway", "objectstore")}
        self.env = {
            **os.environ,
            "HEADRACE_HOME": str(home),
            "KUBECONFIG": str(home / "kubeconfig"),
            "NAMESPACE": NAMESPACE,
            "KFP_HOST": f"http://127.0.0.1:{self.ports['gateway']}/pipeline",
            "INGRESS": f"http://127.0.0.1:{self.ports['gateway']}",
            "S3_ENDPOINT": f"http://127.0.0.1:{self.ports['objectstore']}",
        }

    def headrace(self, *args: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / "headrace"), *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"headrace {args}:\n{done.stdout}{done.stderr}\n{self.log_tail()}"
        return done

    def up(self) -> str:
        ports = [f"--{name}-port={port}" for name, port in self.ports.items()]
        return self.headrace("up", "--detach", *ports).stdout

    def kubectl(self, *args: str, check: bool = True, timeout: float = 120) -> str:
        done = subprocess.run(
            ["kubectl", *args], env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check:
            assert done.returncode == 0, f"kubectl {args}:\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def example(self, name: str, timeout: float = 240) -> subprocess.Popen[str]:
        folder = Path(__file__).parents[2] / "examples" / name
        return subprocess.Popen(
            [sys.executable, "run.py"],
            cwd=folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def api(self, path: str, body: object = None, *, kind: str = "application/json") -> dict:
        """What the gateway answers to the namespace's own account."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        token = self.headrace("token").stdout.strip()
        headers = {"authorization": f"Bearer {token}", "content-type": kind}
        request = urllib.request.Request(self.env["INGRESS"] + path, data, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    @property
    def pid(self) -> int:
        return int((self.home / "run" / "lock").read_text())

    def kill(self) -> None:
        """As a crash would: no handler runs."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
            time.sleep(0.01)

    def log_tail(self) -> str:
        log = self.home / "logs" / "headrace.log"
        return log.read_text(errors="replace")[-4000:] if log.exists() else ""


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine")
    home = tmp_path_factory.mktemp("home")
    running = RunningPlatform(home)
    # Environments are content-addressed: tests may share those that a developer's runs have built.
    running.up()
    yield running
    running.headrace("down", check=False)


@pytest.fixture(scope="session")
def digits(platform) -> str:
    """The id of the digits example's run."""
    with platform.example("01-digits") as done:
        try:
            text, _ = done.communicate(timeout=600)
        finally:
            done.kill()
    assert done.returncode == 0, text + platform.log_tail()
    runs = platform.api(f"/apis/v2beta1/runs?namespace={NAMESPACE}&sort_by=created_at%20desc")["runs"]
    return next(
        run["run_id"] for run in runs if run["state"] == "SUCCEEDED" and run["display_name"].startswith("digits")
    )


@pytest.fixture(scope="session")
def uploaded(platform, digits) -> str:
    """The id of the example's run; a pipeline has been uploaded and run as well."""
    sys.modules["e2e_pages"].prepare(platform.api)
    return digits


@pytest.fixture
def addresses(platform, uploaded):
    """Every page of the dashboard and where it shows something; for once, the user may see all of them."""
    binding = ("clusterrolebinding", "sees-every-page")
    platform.kubectl("create", *binding, "--clusterrole=cluster-admin", "--user=user@example.com")
    try:
        yield sys.modules["e2e_pages"].addresses(platform.api, uploaded)
    finally:
        platform.kubectl("delete", *binding)
