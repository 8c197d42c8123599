"""Who a pod's processes are, what they may do, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.api.core import (
    Capabilities,
    Container,
    EmptyDirVolumeSource,
    Pod,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    Volume,
    VolumeMount,
)
from headrace.node.agent import scheduling, security
from headrace.node.agent.variables import ConfigError
from headrace.node.volumes import ownership
from headrace.testing import eventually

from .conftest import shell

ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root can be other users")


def pod(shared: PodSecurityContext | None = None, **own) -> Pod:
    container = Container(name="main", security_context=SecurityContext(**own) if own else None)
    return Pod(spec=PodSpec(containers=[container], security_context=shared))


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        (None, {}, (None, None)),
        (PodSecurityContext(run_as_user=5, run_as_group=6), {}, (5, 6)),
        (PodSecurityContext(run_as_user=5, run_as_group=6), {"run_as_user": 7}, (7, 6)),
        (PodSecurityContext(run_as_user=5, fs_group=77), {}, (5, None)),
    ],
)
def test_user_and_group(shared, own, expected):
    found = pod(shared, **own)
    assert security.user(found, found.spec.containers[0]) == expected


def test_root_is_refused_to_those_who_must_not_be_root():
    found = pod(PodSecurityContext(run_as_non_root=True), run_as_user=0)
    with pytest.raises(ConfigError, match="breaks non-root policy"):
        security.user(found, found.spec.containers[0])


@pytest.mark.parametrize(
    ("shared", "own", "image", "expected"),
    [
        (None, {}, "nobody", (None, None)),
        (None, {"run_as_user": 7}, "nobody:users", (7, None)),
        (PodSecurityContext(run_as_non_root=True), {}, "101:5", (None, None)),
        (None, {"run_as_group": 9}, "101", (101, 9)),
        (None, {"run_as_group": 9}, "", (0, 9)),
    ],
)
def test_user_of_a_real_image(shared, own, image, expected):
    """None is whoever the image says."""
    found = pod(shared, **own)
    assert security.user_of_real(found, found.spec.containers[0], image) == expected


@pytest.mark.parametrize(
    ("own", "image", "problem"),
    [
        ({"run_as_non_root": True}, "nobody", "non-numeric user \\(nobody\\)"),
        ({"run_as_non_root": True}, "", "image will run as root"),
        ({"run_as_non_root": True}, "0", "image will run as root"),
        ({"run_as_group": 9}, "nobody", "set runAsUser beside runAsGroup"),
    ],
)
def test_users_of_real_images_that_are_refused(own, image, problem):
    found = pod(**own)
    with pytest.raises(ConfigError, match=problem):
        security.user_of_real(found, found.spec.containers[0], image)


def test_capabilities_of_a_real_image():
    plain, dropped = pod(), pod(capabilities=Capabilities(drop=["CHOWN"], add=["SYS_PTRACE"]))
    none = pod(capabilities=Capabilities(drop=["ALL"], add=["KILL"]))
    usual = security.capabilities(plain.spec.containers[0], of_image=True)
    assert {"CHOWN", "SETUID"} <= set(usual)
    assert "SYS_PTRACE" not in usual
    assert "CHOWN" not in security.capabilities(dropped.spec.containers[0], of_image=True)
    assert security.capabilities(none.spec.containers[0], of_image=True) == ("KILL",)


def test_groups_and_capabilities():
    assert security.groups(pod(PodSecurityContext(supplemental_groups=[3, 4, 3], fs_group=4))) == (3, 4)
    assert security.groups(pod()) == ()
    asked = Capabilities(add=["CAP_CHOWN", "setuid", "CHOWN"], drop=["ALL"])
    assert security.capabilities(pod(capabilities=asked).spec.containers[0]) == ("CHOWN", "SETUID")
    assert security.capabilities(pod(privileged=False).spec.containers[0]) == ()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(), False),
        (pod(seccomp_profile=SeccompProfile(type="RuntimeDefault")), True),
        (pod(PodSecurityContext(seccomp_profile=SeccompProfile(type="RuntimeDefault"))), True),
        (
            pod(
                PodSecurityContext(seccomp_profile=SeccompProfile(type="RuntimeDefault")),
                seccomp_profile=SeccompProfile(type="Unconfined"),
            ),
            False,
        ),
    ],
)
def test_who_is_filtered(found, expected):
    assert security.filtered(found, found.spec.containers[0]) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(capabilities=Capabilities(add=["NET_BIND_SERVICE"], drop=["ALL"]), read_only_root_filesystem=True), ""),
        (pod(seccomp_profile=SeccompProfile(type="RuntimeDefault"), allow_privilege_escalation=False), ""),
        (pod(privileged=True), "privileged containers"),
        (pod(capabilities=Capabilities(add=["NET_ADMIN", "SYS_TIME"])), "the capabilities NET_ADMIN, SYS_TIME (only"),
        (pod(capabilities=Capabilities(add=["ALL"])), "the capabilities ALL"),
        (pod(proc_mount="Unmasked"), "procMount Unmasked"),
        (pod(PodSecurityContext(sysctls=[{"name": "net.core.somaxconn", "value": "1"}])), "sysctls"),
        (pod(PodSecurityContext(seccomp_profile=SeccompProfile(type="Localhost"))), "Localhost profiles"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(found, expected):
    told = scheduling.unsupported(found)
    assert [text[: len(expected)] for text in told] == ([expected] if expected else [])


@ROOT_ONLY
def test_a_volume_given_to_a_group(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "f").write_text("x")
    (tmp_path / "a" / "f").chmod(0o600)
    (tmp_path / "a" / "link").symlink_to("/etc/hostname")
    outside = Path("/etc/hostname").stat()
    ownership.give(tmp_path / "a", 4321, None)
    for path, mode in (("a", 0o2770), ("a/b", 0o2770), ("a/f", 0o660)):
        there = (tmp_path / path).stat()
        assert there.st_gid == 4321
        assert there.st_mode & mode == mode, path
    assert Path("/etc/hostname").stat().st_gid == outside.st_gid
    os.chown(tmp_path / "a" / "f", 0, 0)
    ownership.give(tmp_path / "a", 4321, "OnRootMismatch")
    assert (tmp_path / "a" / "f").stat().st_gid == 0, "the top is the group's already"
    ownership.give(tmp_path / "a", 4321, "Always")
    assert (tmp_path / "a" / "f").stat().st_gid == 4321


@pytest.mark.node
@ROOT_ONLY
async def test_the_group_of_a_pods_volumes(node):
    mount = VolumeMount(name="shared", mount_path="/shared")
    script = "id -G; echo x > /shared/f; stat -c '%g %a' /shared /shared/f"
    await node.run(
        "one",
        shell(script, volume_mounts=[mount]),
        volumes=[Volume(name="shared", empty_dir=EmptyDirVolumeSource())],
        security_context=PodSecurityContext(run_as_user=1000, run_as_group=1000, fs_group=77, supplemental_groups=[88]),
    )
    await node.phase("one", "Succeeded", timeout=30)
    assert await node.log("one") == "1000 77 88\n77 2777\n77 644\n"


@pytest.mark.node
async def test_a_privileged_pod_waits_and_says_why_and_one_placed_by_others_fails(node):
    privileged = SecurityContext(privileged=True)
    await node.run("one", shell("true", security_context=privileged))
    sentence = "0/1 nodes are available: 1 node(s) did not support privileged containers."

    async def told():
        found = await node.pod("one")
        return any(c.message == sentence and c.reason == "Unschedulable" for c in found.status.conditions)

    await eventually(told, timeout=30)
    assert (await node.pod("one")).status.phase == "Pending"
    await node.run("two", shell("true", security_context=privileged), node_name=node.settings.node_name)
    found = await node.phase("two", "Failed", timeout=30)
    assert found.status.reason == "UnexpectedAdmissionError"
    assert "does not support privileged containers" in found.status.message


@pytest.mark.node
async def test_added_capabilities_reach_the_program(node):
    own = SecurityContext(run_as_user=0, capabilities=Capabilities(add=["CHOWN"], drop=["ALL"]))
    await node.run(
        "one", shell("grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status", security_context=own)
    )
    await node.phase("one", "Succeeded", timeout=30)
    assert (await node.log("one")).split() == ["CapEff:", "0000000000000001", "NoNewPrivs:", "1"]
