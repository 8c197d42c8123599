"""An API server in a thread of its own, and the unmodified clients pointed at it."""

import asyncio
import os
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from headrace.testing.http import http_cluster

KUBECTL_SECONDS = 120


class Background:
    """An event loop in a thread, holding one cluster for the length of a module."""

    def __init__(self, home: Path, logs, dialer):
        self._ready: Future = Future()
        self._home, self._logs, self._dialer = home, logs, dialer
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self):
        try:
            async with http_cluster(self._home, logs=self._logs, dialer=self._dialer) as made:
                self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
                self._ready.set_result(made)
                await self._stop.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise

    def start(self):
        self._thread.start()
        return self._ready.result(30)

    def run(self, coroutine, timeout=60):
        """Run a coroutine beside the server."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    def later(self, seconds, make):
        """Run `make()` a little later, while a client waits for what it does."""

        async def go():
            await asyncio.sleep(seconds)
            await make()

        return asyncio.run_coroutine_threadsafe(go(), self._loop)

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


class Lines:
    """PodLogs of fixed lines."""

    def __init__(self):
        self.lines = [b"first\n", b"second\n"]

    async def stream(self, namespace, pod, container, *, tail=None, follow=False, **_options):
        for line in self.lines[-tail:] if tail else self.lines:
            yield line


class Kubectl:
    """kubectl with a home and kubeconfig of its own."""

    def __init__(self, home, kubeconfig):
        self._environment = {
            "HOME": str(home),
            "KUBECONFIG": str(kubeconfig),
            "PATH": os.environ["PATH"],
            "KUBECACHEDIR": str(home / "cache"),
        }

    def run(self, *arguments, stdin=None, env=None):
        return subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            env={**self._environment, **(env or {})},
            check=False,
        )

    def __call__(self, *arguments, stdin=None, env=None):
        """The output of a command that must succeed."""
        done = self.run(*arguments, stdin=stdin, env=env)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def fails(self, *arguments, stdin=None):
        """What a command that must fail says."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def popen(self, *arguments):
        return subprocess.Popen(
            ["kubectl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment
        )


@pytest.fixture(scope="module")
def dialer():
    """There is no pod network, unless a module has one."""


@pytest.fixture(scope="module")
def background(tmp_path_factory, dialer):
    made = Background(tmp_path_factory.mktemp("home"), Lines(), dialer)
    made.http = made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def kubectl(background, tmp_path_factory):
    return Kubectl(tmp_path_factory.mktemp("kubectl"), background.http.kubeconfig)


@pytest.fixture
def namespace(request, kubectl):
    """A namespace of the test's own."""
    name = request.node.name.split("[")[0].replace("_", "-")[:60].strip("-")
    kubectl("create", "namespace", name)
    return name


@pytest.fixture(scope="module")
def api_client(background):
    """The Python client's own connection to the module's server."""
    from kubernetes import config  # heavy, and kubectl's tests do without

    made = config.new_client_from_config(str(background.http.kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()
    made.close()
