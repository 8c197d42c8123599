"""What podman is told, and what is made of its answers; it is not run here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.node.runtime import container, engines
from headrace.node.runtime.base import ContainerSpec, Layer, Mount, PodSandbox
from headrace.node.runtime.engines import Engines, EngineUnavailable, RealImage

POD = PodSandbox("uid", "ns", "pod", "host", "10.199.0.2")
SPEC = ContainerSpec("main-0", "uid", ("sh", "-c", "true"), {"PATH": "/bin"}, Path("/log"), image="acme:1")


def folder_of(tmp_path, *programs):
    for name in programs:
        program = tmp_path / name
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("programs", "user", "sentence"),
    [
        ((), 0, "Neither podman nor docker is installed"),
        (("docker",), 0, "Docker is installed, but it cannot put containers into the network of pods"),
        (("podman", "docker"), 1000, "as an ordinary user it cannot"),
        (("podman",), 0, ""),
    ],
)
async def test_what_need_not_be_tried(tmp_path, monkeypatch, programs, user, sentence):
    monkeypatch.setenv("PATH", folder_of(tmp_path, *programs))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert sentence in engines.hopeless()
    assert bool(engines.hopeless()) == bool(sentence)
    with pytest.raises(EngineUnavailable, match=sentence or "runs no containers here"):
        await Engines().ready()


async def test_the_first_options_that_work_are_kept(tmp_path, monkeypatch):
    """Podman here works only with runc, and with limits."""
    folder = folder_of(tmp_path, "podman", "runc", "crun")
    asked = tmp_path / "asked"
    (tmp_path / "podman").write_text(
        f'#!/bin/sh\necho "$*" >> {asked}\ncase "$*" in *"--runtime runc --ulimit nofile"*) exit 0;; esac\n'
        "echo Error: no such luck. >&2; exit 125\n"
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = Engines()
    first, second = await found.ready(), await found.ready()
    assert first is second
    assert first.options[:3] == ("--runtime", "runc", "--ulimit")
    lines = asked.read_text().splitlines()
    assert len(lines) == 5, "none, runc, crun, limits alone, both"
    assert all("--rootfs" in line and line.endswith("/bin/true") for line in lines)


@pytest.mark.parametrize(("logins", "pulls"), [(b"", 1), (b'{"auths": {"good": {}}}', 1), (b'{"auths": {}}', 2)])
async def test_logins_of_secrets_come_before_podmans_own(tmp_path, monkeypatch, logins, pulls):
    """Podman here pulls with logins that name `good`, and with its own."""
    asked = tmp_path / "asked"
    folder = folder_of(tmp_path, "podman")
    (tmp_path / "podman").write_text(
        f'#!/bin/sh\ncase "$1" in image) echo \'[{{"Id": "1"}}]\';;\n'
        f'pull) echo "$*" >> {asked}\n'
        'case "$3" in --authfile) grep -q good "$4" || { echo Error: denied. >&2; exit 125; };; esac;; esac\n'
    )
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert (await Engines().pull("example.com/a:1", logins)).id == "1"
    lines = asked.read_text().splitlines()
    assert len(lines) == pulls
    assert ["--authfile" in line for line in lines] == [bool(logins), False][:pulls]
    files = [word for line in lines for word in line.split() if "headrace-logins-" in word]
    assert not any(Path(file).exists() for file in files)


def test_what_an_image_says_of_itself():
    config = {"Env": ["A=b=c", "PATH=/bin"], "Entrypoint": None, "Cmd": ["x"], "WorkingDir": "/w", "User": "nobody"}
    found = engines.described({"Id": "sha256:12", "Size": 5, "Config": config})
    assert found == RealImage("12", (), ("x",), {"A": "b=c", "PATH": "/bin"}, "/w", "nobody", 5)
    assert engines.described({"Id": "12"}) == RealImage("12")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            'Error: runc: failed: exec: "no": executable file not found in $PATH: OCI runtime attempted to invoke',
            'exec: "no": executable file not found in $PATH',
        ),
        ('exec: "/etc/passwd": permission denied: unknown', 'exec: "/etc/passwd": permission denied'),
        ("a warning\nError: something else.\n", "something else"),
        ("", "it said nothing"),
    ],
)
def test_sentences(said, told):
    assert container.plainly(said) == told


def test_variables_of_podmans_own_are_not_given_to_it():
    env = {
        "SECRET": "x\ny",
        "PATH": "/p",
        "XDG_RUNTIME_DIR": "/r",
        "CONTAINERS_CONF": "/c",
        "LD_PRELOAD": "/l",
        "A*": "1",
    }
    passed, plain = container.split_env(env)
    assert passed == {"SECRET": "x\ny"}
    assert plain == {name: value for name, value in env.items() if name != "SECRET"}


def words_of(**changes):
    spec = ContainerSpec(**{**{f: getattr(SPEC, f) for f in SPEC.__dataclass_fields__}, **changes})
    return container.run_words(spec, POD, [], passed={"S": "v"}, plain={"PATH": "/bin"})


def test_the_least():
    words = words_of()
    assert words[-4:] == ['--entrypoint=["sh"]', "acme:1", "-c", "true"]
    assert {"--cap-drop=all", "--network=ns:@network@", "--env=S", "--env=PATH=/bin", "--pull=never"} <= set(words)
    assert not any(
        word.startswith(("--user", "--memory", "--cpus", "--workdir", "--read-only", "--tty")) for word in words
    )


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"uid": 5}, {"--user=5"}),
        ({"uid": 5, "gid": 6, "groups": (7, 8)}, {"--user=5:6", "--group-add=7", "--group-add=8"}),
        ({"memory_bytes": 1 << 20, "cpus": 0.5}, {"--memory=1048576b", "--memory-swap=1048576b", "--cpus=0.5"}),
        ({"cwd": "/w", "read_only_root": True}, {"--workdir=/w", "--read-only", "--read-only-tmpfs=false"}),
        ({"stdin": True, "tty": True}, {"--interactive", "--tty", "--attach=stdin"}),
        ({"capabilities": ("CHOWN",)}, {"--cap-add=CHOWN"}),
    ],
)
def test_what_is_asked_for_is_said(changes, wanted):
    assert wanted <= set(words_of(**changes))


def test_mounts():
    bind = {"target": "/a,b", "source": "/s", "kind": "bind", "read_only": True, "size": None}
    assert container.mount_words(bind) == 'type=bind,"target=/a,b",source=/s,readonly=true'
    memory = {"target": "/m", "source": "", "kind": "tmpfs", "read_only": False, "size": 4096}
    assert container.mount_words(memory) == "type=tmpfs,target=/m,notmpcopyup,tmpfs-mode=1777,tmpfs-size=4096"


@pytest.mark.parametrize(
    ("changes", "pod", "problem"),
    [
        ({}, {}, ""),
        ({}, {"share_processes": True}, "leave shareProcessNamespace out"),
        ({"joins": "other-0"}, {}, "leave targetContainerName out"),
        ({"mounts": (Mount("/dev/nvidia0", Path("/dev/null")),)}, {}, "device files \\(/dev/nvidia0\\)"),
        ({"layers": (Layer("/x", ()),)}, {}, "cannot be laid over"),
    ],
)
def test_what_podman_is_not_asked_for(changes, pod, problem):
    spec = ContainerSpec(**{**{f: getattr(SPEC, f) for f in SPEC.__dataclass_fields__}, **changes})
    sandbox = PodSandbox("uid", "ns", "pod", "host", "10.199.0.2", **pod)
    told = container.refusal(spec, sandbox)
    assert (problem.replace("\\", "") in told) if problem else told == ""
