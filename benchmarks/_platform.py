"""A platform of its own for the benchmarks: temporary home, free ports, removed afterwards."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
NAMESPACE = "kubeflow-user-example-com"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class BenchPlatform:
    """Starts and stops a platform through the command line, as a person would."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
        # The package cache is the user's, so that what is measured is not the network.
        self.env = {**os.environ, "HEADRACE_HOME": str(self.home)}
        self.ports = {"api": free_port(), "gateway": free_port(), "objectstore": free_port()}

    def headrace(self, *args: str, check: bool = True) -> str:
        done = subprocess.run([str(BIN / "headrace"), *args], env=self.env, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise SystemExit(f"headrace {' '.join(args)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> None:
        self.headrace("up", "--detach", *(f"--{name}-port={port}" for name, port in self.ports.items()))
        os.environ["KUBECONFIG"] = str(self.home / "kubeconfig")

    def down(self) -> None:
        self.headrace("down", check=False)

    def status(self) -> dict:
        return json.loads(self.headrace("status", "--json"))

    def token(self) -> str:
        return self.headrace("token").strip()

    def close(self) -> None:
        self.down()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.home)

    def kfp_client(self):
        import kfp

        host = f"http://127.0.0.1:{self.ports['gateway']}/pipeline"
        return kfp.Client(host=host, existing_token=self.token(), namespace=NAMESPACE)
