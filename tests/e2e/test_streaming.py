"""Sessions in pods through unmodified clients: kubectl exec, cp, attach, port-forward and top, and Python's streams."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from .conftest import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.node, pytest.mark.clients, pytest.mark.timeout(120)]

SERVER = "mkdir -p /tmp/www && cd /tmp/www && echo hello from the pod > index.html && exec python3 -m http.server 8000"


@pytest.fixture(scope="module")
def web(platform):
    """A pod `web` that serves files on port 8000, with a service and a second container without anything."""
    side = {
        "name": "side",
        "image": "busybox",
        "command": ["sleep", "1000"],
        "env": [{"name": "COLOR", "value": "blue"}],
    }
    main = {"name": "main", "image": "python:3.11", "command": ["sh", "-c", SERVER]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    **main,
                    "ports": [{"name": "http", "containerPort": 8000}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
                },
                side,
            ],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    path = platform.home / "web.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [pod, service]}))
    platform.kubectl("apply", "-f", str(path))
    platform.kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
    yield "web"
    platform.kubectl("delete", "-f", str(path), "--wait=false")


def kubectl(platform, *arguments, stdin=None, timeout=30):
    return subprocess.run(
        ["kubectl", *arguments], env=platform.env, input=stdin, capture_output=True, timeout=timeout, check=False
    )


def test_exec_tells_output_errors_and_exit_codes_apart(platform, web):
    done = kubectl(platform, "exec", "web", "-c", "side", "--", "sh", "-c", "echo $COLOR; echo oops >&2; exit 42")
    assert (done.returncode, done.stdout) == (42, b"blue\n")
    assert done.stderr == b"oops\ncommand terminated with exit code 42\n"
    data = os.urandom(3 << 20)
    done = kubectl(platform, "exec", "-i", "web", "-c", "side", "--", "cat", stdin=data)
    assert (done.returncode, done.stdout == data) == (0, True)


def test_exec_of_what_is_not_there(platform, web):
    done = kubectl(platform, "exec", "web", "-c", "side", "--", "no-such-program")
    assert done.returncode == 1
    assert b'exec: "no-such-program": executable file not found in $PATH' in done.stderr
    done = kubectl(platform, "exec", "web", "-c", "nobody", "--", "ls")
    assert b"container nobody is not valid for pod web" in done.stderr
    assert b'pods "nowhere" not found' in kubectl(platform, "exec", "nowhere", "--", "ls").stderr


def test_debug_attaches_a_container_to_a_running_pod(platform, web):
    # The debugger waits for a word, so that it says nothing before kubectl is attached.
    look = ["sh", "-c", "read word; tr '\\0' ' ' < /proc/1/cmdline; echo; echo got $word"]
    debug = ["debug", "-i", "web", "--image=busybox", "--target=main", "--container=look", "--", *look]
    done = kubectl(platform, *debug, stdin=b"hello\n", timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"http.server 8000" in done.stdout, done
    assert b"got hello" in done.stdout
    log = kubectl(platform, "logs", "web", "-c", "look")
    assert b"got hello" in log.stdout
    described = kubectl(platform, "describe", "pod", "web")
    assert b"Ephemeral Containers:" in described.stdout


def test_describe_node_shows_the_machine_and_what_runs_on_it(platform, web):
    name = platform.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}").strip()
    described = platform.kubectl("describe", "node", name)
    for words in (
        "Capacity:",
        "Allocatable:",
        "System Info:",
        "Non-terminated Pods:",
        "Allocated resources:",
        "PodCIDR:",
    ):
        assert words in described, described
    lines = [line.split() for line in described.split("Conditions:")[1].split("Addresses:")[0].splitlines()]
    conditions = {words[0]: words[1] for words in lines if any("Kubelet" in word for word in words)}
    expected = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    assert conditions == expected, described
    running = described.split("Non-terminated Pods:")[1].split("Allocated resources:")[0]
    assert any(line.split()[1:2] == ["web"] for line in running.splitlines()), running
    assert "Lease:" in described
    assert "HolderIdentity:  <unset>" not in described


class Terminal:
    """A person at a terminal of 101 columns and 33 rows, in which a program runs."""

    def __init__(self, platform, *command):
        self.leader, follower = pty.openpty()
        self.resize(101, 33)
        self.program = subprocess.Popen(
            command, env=platform.env, stdin=follower, stdout=follower, stderr=follower, start_new_session=True
        )
        os.close(follower)
        self.text = b""

    def resize(self, columns, rows):
        fcntl.ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.leader, text)

    def read(self, seconds):
        """More text, or none after so many seconds; a terminal that nobody holds any more says so in the error."""
        if select.select([self.leader], [], [], seconds)[0]:
            try:
                self.text += os.read(self.leader, 4096)
            except OSError as error:
                message = f"the program ended with {self.program.wait(10)} after {self.text!r}"
                raise AssertionError(message) from error

    def until(self, *wanted):
        deadline = time.monotonic() + 20
        while not any(w in self.text for w in wanted):
            assert time.monotonic() < deadline, self.text
            self.read(0.5)

    def until_size(self, wanted):
        """Ask for the size until it is the wanted one: kubectl sends it beside the input, not before it."""
        deadline = time.monotonic() + 20
        while wanted not in self.text:
            assert time.monotonic() < deadline, self.text
            self.type(b"stty size\n")
            self.read(0.5)


PROMPTS = (b"# ", b"$ ")


def test_exec_with_a_terminal(platform, web):
    person = Terminal(platform, "kubectl", "exec", "-it", "web", "-c", "side", "--", "sh")
    person.until(*PROMPTS)
    person.until_size(b"33 101")
    person.type(b"tty\n")
    person.until(b"/dev/pts/")
    person.resize(120, 40)
    os.kill(person.program.pid, signal.SIGWINCH)
    person.until_size(b"40 120")
    person.type(b"exit 7\n")
    assert person.program.wait(10) == 7
    os.close(person.leader)


def test_run_with_a_terminal(platform):
    command = ("kubectl", "run", "box", "-it", "--rm", "--restart=Never", "--image=busybox", "--command", "--", "sh")
    person = Terminal(platform, *command)
    person.until(b"try pressing enter")
    person.type(b"\n")
    person.until(*PROMPTS)
    person.until_size(b"33 101")
    person.type(b"tty\n")
    person.until(b"/dev/pts/")
    person.type(b"exit 3\n")
    person.until(b'pod "box" deleted')
    assert person.program.wait(20) == 3
    os.close(person.leader)


def test_a_client_that_goes_away_takes_its_command_along(platform, web):
    client = subprocess.Popen(
        ["kubectl", "exec", "web", "-c", "side", "--", "sh", "-c", "echo ready; sleep 4321"],
        env=platform.env,
        stdout=subprocess.PIPE,
    )
    assert client.stdout.readline() == b"ready\n"
    client.kill()
    client.wait()
    client.stdout.close()
    deadline = time.monotonic() + 10
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    while b"sleep 4321" in kubectl(platform, "exec", "web", "-c", "side", "--", "sh", "-c", look).stdout:
        assert time.monotonic() < deadline


def test_cp_both_ways(platform, web, tmp_path: Path):
    folder = tmp_path / "here"
    (folder / "deep").mkdir(parents=True)
    data = os.urandom(5 << 20)
    (folder / "deep" / "data.bin").write_bytes(data)
    (folder / "note.txt").write_text("hello\n")
    assert kubectl(platform, "cp", str(folder), "web:/tmp/there", "-c", "main").returncode == 0
    assert kubectl(platform, "cp", "web:/tmp/there", str(tmp_path / "back"), "-c", "main").returncode == 0
    assert (tmp_path / "back" / "deep" / "data.bin").read_bytes() == data
    assert (tmp_path / "back" / "note.txt").read_text() == "hello\n"


def test_attach_shows_what_is_written_from_now_on(platform):
    script = "while ! [ -e /tmp/go ]; do echo waits; sleep 0.05; done; echo out; echo err >&2; sleep 0.2; echo end"
    platform.kubectl("run", "talker", "--image=busybox", "--restart=Never", "--command", "--", "sh", "-c", script)
    platform.kubectl("wait", "pod/talker", "--for=condition=Ready", "--timeout=30s")
    attached = subprocess.Popen(
        ["kubectl", "attach", "talker"], env=platform.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert attached.stdout.readline() == b"waits\n"
    platform.kubectl("exec", "talker", "--", "touch", "/tmp/go")
    out, err = attached.communicate(timeout=60)
    assert (attached.returncode, out.replace(b"waits\n", b"")) == (0, b"out\nend\n")
    assert b"err\n" in err
    platform.kubectl("wait", "pod/talker", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert "completed pod" in platform.kubectl("exec", "talker", "--", "ls", check=False)


def test_run_with_input(platform):
    arguments = ("run", "reader", "-i", "--rm", "--quiet", "--restart=Never", "--image=busybox", "--command", "--")
    done = kubectl(platform, *arguments, "sh", "-c", "sleep 1; cat; echo over", stdin=b"some text\n", timeout=60)
    assert (done.returncode, done.stdout) == (0, b"some text\nover\n"), done.stderr


def test_attach_with_input_needs_a_container_that_takes_it(platform, web):
    done = kubectl(platform, "attach", "-i", "web", "-c", "side", stdin=b"x")
    assert done.returncode == 1
    assert b"container side takes no input" in done.stderr


@contextlib.contextmanager
def forwarded(platform, what: str, remote: int):
    """A port of this machine that kubectl forwards."""
    local = free_port()
    forward = subprocess.Popen(
        ["kubectl", "port-forward", what, f"{local}:{remote}"],
        env=platform.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        line = forward.stdout.readline()
        assert b"Forwarding from" in line, line + forward.stdout.read()
        yield local
    finally:
        forward.terminate()
        forward.wait(10)
        forward.stdout.close()


@pytest.mark.parametrize(("what", "remote"), [("pod/web", 8000), ("svc/web", 80)])
def test_port_forward(platform, web, what, remote):
    with forwarded(platform, what, remote) as local:
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{local}/index.html", timeout=10) as answer:
                assert answer.read() == b"hello from the pod\n"


def test_port_forward_of_much_and_of_many_at_once(platform, web):
    make = "head -c 20000000 /dev/zero > /tmp/www/zeros"
    platform.kubectl("exec", "web", "-c", "main", "--", "sh", "-c", make)
    with forwarded(platform, "pod/web", 8000) as local:
        url = f"http://127.0.0.1:{local}/zeros"
        script = f"import urllib.request; print(len(urllib.request.urlopen('{url}').read()))"
        readers = [subprocess.Popen(["python3", "-c", script], stdout=subprocess.PIPE) for _ in range(4)]
        assert [reader.communicate(timeout=30)[0] for reader in readers] == [b"20000000\n"] * 4


def test_port_forward_to_where_nothing_listens(platform, web):
    with forwarded(platform, "pod/web", 81) as local, pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"http://127.0.0.1:{local}/", timeout=10)


def test_top(platform, web):
    node = platform.kubectl("top", "node").splitlines()
    assert node[0].split() == ["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"]
    assert len(node) == 2
    pod = platform.kubectl("top", "pod", "web", "--containers").splitlines()
    assert [line.split()[:2] for line in pod] == [["POD", "NAME"], ["web", "main"], ["web", "side"]]
    memory = {line.split()[1]: line.split()[3] for line in pod[1:]}
    assert 5 < int(memory["main"].removesuffix("Mi")) < 200
    assert "web" in platform.kubectl("top", "pod", "-l", "app=web")
    assert platform.kubectl("get", "pods.metrics.k8s.io", "web").split()[:4] == ["NAME", "CPU", "MEMORY", "WINDOW"]


def test_who_may_not(platform, web):
    viewer = "--as=system:serviceaccount:default:viewer"
    platform.kubectl("create", "rolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:viewer")
    for arguments in (("exec", "web", "--", "ls"), ("attach", "web"), ("port-forward", "web", ":8000")):
        assert "forbidden" in platform.kubectl(viewer, *arguments, check=False), arguments
    assert "web" in platform.kubectl("top", "pod", viewer)


PYTHON = """
import sys
import kubernetes
from kubernetes.stream import portforward, stream

api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(config_file=sys.argv[1]))
execute = api.connect_get_namespaced_pod_exec
asked = {"stdout": True, "stderr": True, "tty": False, "container": "side"}
text = stream(execute, "web", "default", command=["sh", "-c", "echo out; echo err >&2"], stdin=False, **asked)
print(sorted(text.split()))

command = ["sh", "-c", "read -r line; echo got $line; exit 3"]
session = stream(execute, "web", "default", command=command, stdin=True, _preload_content=False, **asked)
session.write_stdin("a line\\n")
print(session.readline_stdout(timeout=10))
session.run_forever(timeout=10)
print(session.returncode)

forward = portforward(api.connect_get_namespaced_pod_portforward, "web", "default", ports="8000")
sock = forward.socket(8000)
sock.setblocking(True)
sock.sendall(b"GET /index.html HTTP/1.0\\r\\n\\r\\n")
answer = b""
while b"hello from the pod" not in answer:
    part = sock.recv(4096)
    assert part, answer
    answer += part
print(forward.error(8000))
"""


def test_the_python_client(platform, web):
    done = subprocess.run(
        [sys.executable, "-c", PYTHON, str(platform.home / "kubeconfig")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["['err', 'out']", "got a line", "3", "None"], done.stderr
