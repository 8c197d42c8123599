"""A platform of its own for these tests, started and stopped by the command line as a person would."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
NAMESPACE = "kubeflow-user-example-com"


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
