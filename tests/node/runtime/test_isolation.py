"""What a container can see and do, and what it cannot."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from headrace.node.runtime.base import ContainerSpec, Mount, RuntimeUnavailable, StartFailed
from headrace.node.runtime.sandbox import SandboxRuntime
from headrace.testing.eventually import eventually

PYTHON = os.path.realpath(sys.executable)
"""The base interpreter: pods see it wherever this checkout lies, also below /tmp, which is private to each pod."""

pytestmark = pytest.mark.node


async def test_pids_hostname_and_names_are_the_pods_own(node):
    await node.pod(hostname="web-0", dns_search=("ns.svc.cluster.local", "svc.cluster.local"))
    ended = await node.sh(
        "echo $$; hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; ls /proc | grep -c '^[0-9]'"
    )
    lines = ended.out.splitlines()
    assert lines[:3] == ["1", "web-0", "web-0"]
    assert "10.199.0.2\tweb-0" in lines
    assert "search ns.svc.cluster.local svc.cluster.local" in lines
    assert f"nameserver {node.settings.node_ip}" in lines
    assert int(lines[-1]) <= 4


async def test_the_host_is_read_only_and_tmp_private(node):
    await node.pod()
    host_tmp = Path("/tmp", f"headrace-test-{os.getpid()}")
    script = f"""
    for d in /usr /etc /var /opt /sys; do touch $d/x 2>/dev/null && echo "wrote $d"; done
    touch {host_tmp} /var/tmp/a /dev/shm/b /run/c /c && echo own
    """
    ended = await node.sh(script)
    assert ended.out == "own\n"
    assert not host_tmp.exists()
    again = await node.sh(f"ls {host_tmp} /c")
    assert again.code != 0, "a new container starts clean"


async def test_the_platforms_secrets_are_not_readable(node):
    for folder in ("pki", "state", "volumes"):
        path = node.settings.home / folder
        path.mkdir(parents=True)
        (path / "secret").write_text("top secret")
    (node.settings.cache / "public").write_text("an environment")
    await node.pod()
    home = node.settings.home
    ended = await node.sh(
        f"cat {home}/pki/secret {home}/state/secret {home}/volumes/secret; ls {home}; cat {home}/cache/public;"
        f" touch {home}/cache/x; ls -A $USERS_HOME | head -3; cat /etc/shadow; cat /proc/1/root/{home}/pki/secret",
        env={"USERS_HOME": str(Path.home())},
    )
    assert "top secret" not in ended.out
    assert "cache" in ended.out.splitlines()
    assert "an environment" in ended.out
    assert not (node.settings.cache / "x").exists()
    assert "root:" not in ended.out


async def test_no_capability_is_left(node):
    await node.pod()
    ended = await node.sh(
        "grep -E 'Cap(Eff|Prm|Inh|Amb)|NoNewPrivs' /proc/self/status; mount -t tmpfs x /mnt; chown 12 /c"
    )
    values = dict(line.split(":\t") for line in ended.out.splitlines())
    assert values.pop("NoNewPrivs") == "1"
    assert set(values.values()) == {"0000000000000000"}
    assert ended.code != 0


async def test_processes_of_others_cannot_be_signalled(node):
    await node.pod()
    ended = await node.sh(f"kill -0 {os.getpid()} || echo gone; cat /proc/{os.getpid()}/cmdline 2>/dev/null | wc -c")
    assert ended.out == "gone\n0\n"


async def test_volumes_at_their_real_paths(node, tmp_path):
    data, secret, one = tmp_path / "data", tmp_path / "secret", tmp_path / "one"
    for folder in (data, secret):
        folder.mkdir()
    (secret / "token").write_text("t0ken")
    one.write_text("from a file")
    await node.pod()
    mounts = (
        Mount("/mnt/data", data),
        Mount("/var/run/secrets/kubernetes.io/serviceaccount", secret, read_only=True),
        Mount("/usr/share/deep/er/config.txt", one, read_only=True),
        Mount("/scratch", kind="tmpfs", size_bytes=1 << 20),
        Mount("/dev/termination-log", one),
    )
    ended = await node.sh(
        "cat /var/run/secrets/kubernetes.io/serviceaccount/token /usr/share/deep/er/config.txt; echo; "
        "echo hello > /mnt/data/out; echo x > /run/secrets/kubernetes.io/serviceaccount/x; "
        "ls /usr/share | wc -l; head -c 2000000 /dev/zero > /scratch/big; echo $?; echo bye > /dev/termination-log",
        mounts=mounts,
    )
    assert ended.out.startswith("t0kenfrom a file\n")
    assert (data / "out").read_text() == "hello\n"
    assert not (secret / "x").exists()
    assert int(ended.out.splitlines()[1]) == len(list(Path("/usr/share").iterdir())) + 1
    assert ended.out.splitlines()[2] == "1", "the tmpfs is bounded"
    assert one.read_text() == "bye\n"


async def test_a_symlink_in_a_volume_cannot_lead_a_mount_out(node, tmp_path):
    volume, other, outside = tmp_path / "v", tmp_path / "o", tmp_path / "outside"
    for folder in (volume, other, outside):
        folder.mkdir()
    (volume / "link").symlink_to(f"../../../../../../..{outside}")
    (other / "f").write_text("payload")
    await node.pod()
    ended = await node.sh(
        f"ls {outside}; ls /v", mounts=(Mount("/v", volume), Mount("/v/link/inner", other, read_only=True))
    )
    assert "inner" in ended.out, "resolved inside the container's root"
    assert list(outside.iterdir()) == []


async def test_mounts_that_cannot_be_made_say_why(node, tmp_path):
    await node.pod()
    with pytest.raises(StartFailed, match=r"mount /data: .*missing does not exist"):
        await node.runtime.start_container(node.spec("true", mounts=(Mount("/data", tmp_path / "missing"),)))
    with pytest.raises(StartFailed, match=r"/etc/hostname is not a directory"):
        await node.runtime.start_container(node.spec("true", mounts=(Mount("/etc/hostname/x", tmp_path),)))
    assert await node.runtime.containers() == []


async def test_a_writable_layer_is_thrown_away(node):
    environment = node.settings.cache / "envs" / "abc"
    environment.mkdir(parents=True)
    (environment / "kept").write_text("original")
    await node.pod()
    ended = await node.sh(
        f"echo new > {environment}/added && echo changed > {environment}/kept && cat {environment}/*; "
        f"touch {node.settings.cache}/x",
        writable=(str(environment),),
    )
    assert ended.out == "new\nchanged\n"
    assert (environment / "kept").read_text() == "original"
    assert sorted(p.name for p in environment.iterdir()) == ["kept"]
    container = node.settings.run / "pods" / "pod" / "containers" / ended.state.id
    await eventually(lambda: sorted(p.name for p in container.iterdir()) == ["exit.json", "state.json"])


async def test_nobody_waits_for_a_disk_when_a_layer_is_thrown_away(node):
    environment = node.settings.cache / "envs" / "abc"
    environment.mkdir(parents=True)
    await node.pod()
    ended = await node.sh(f"grep ' {environment} ' /proc/self/mountinfo", writable=(str(environment),))
    assert "volatile" in ended.out.rpartition(" - ")[2]


async def test_a_read_only_root_leaves_volumes_writable(node, tmp_path):
    await node.pod()
    ended = await node.sh(
        "for d in / /tmp /var/tmp /run /home /opt; do touch $d/x 2>/dev/null && echo $d; done; "
        "touch /data/x /dev/shm/x /var/tmp/volume/x && echo volumes",
        read_only_root=True,
        mounts=(
            Mount("/data", tmp_path),
            Mount("/var/tmp/volume", tmp_path),
            Mount("/opt/headrace", tmp_path, read_only=True),
        ),
    )
    assert ended.out == "volumes\n"


async def test_a_volume_over_a_folder_of_the_image_is_writable_too(node):
    await node.pod()
    ended = await node.sh(
        "touch /tmp/x && echo own; touch /x || echo no", read_only_root=True, mounts=(Mount("/tmp", kind="tmpfs"),)
    )
    assert ended.out == "own\nno\n"


async def test_user_and_group(node):
    await node.pod()
    ended = await node.sh(
        "id -u; id -g; touch /tmp/x && echo ok; echo $HOME; touch $HOME/y && echo home",
        uid=1234,
        gid=55,
        env={"HOME": "/home/jovyan"},
    )
    assert ended.out.splitlines() == ["1234", "55", "ok", "/home/jovyan", "home"]
    default = await node.sh("id -u")
    assert default.out.strip() == str(os.getuid())


async def test_the_base_interpreter_can_be_run(node):
    """It may lie in the user's home folder, which is hidden."""
    await node.pod()
    script = "import sys, ssl, ctypes; print(sys.executable, sys.prefix != sys.base_prefix)"
    ended = await node.run(PYTHON, "-c", script)
    assert ended.out == f"{PYTHON} False\n", ended.err


async def test_working_directory_and_environment_are_exact(node):
    await node.pod()
    ended = await node.run("env", env={"A": "1", "B": "two words\nand a line"}, cwd="/some/dir")
    assert ended.out.splitlines() == [f"PATH={node.spec().env['PATH']}", "A=1", "B=two words", "and a line"]
    assert (await node.run("pwd", cwd="/made/for/it")).out == "/made/for/it\n"


async def test_cpus(node):
    await node.pod()
    ended = await node.sh("nproc --all >/dev/null; nproc; echo $OMP_NUM_THREADS", cpus=0.5)
    assert ended.out.split()[1:] == ["1"]
    asked = await node.sh("echo $OMP_NUM_THREADS", cpus=0.5, env={"OMP_NUM_THREADS": "7"})
    assert asked.out.strip() == "7"


async def test_two_homes_side_by_side(node, tmp_path):
    other = SandboxRuntime(type(node.settings)(home=tmp_path / "another home"))
    await other.start()
    try:
        await node.pod(ip="10.199.0.2")
        await other.create_pod(await node.pod(ip="10.199.0.2"))
        log = tmp_path / "log"
        spec = ContainerSpec("c", "pod", ("sleep", "100"), {"PATH": "/usr/bin:/bin"}, log)
        await asyncio.gather(node.runtime.start_container(node.spec("sleep", "100")), other.start_container(spec))
        assert len(await other.containers()) == 1
    finally:
        await other.stop(pods=True)
    assert len(await node.runtime.containers()) == 1


async def test_a_deep_home_is_no_problem(tmp_path):
    """Unix socket paths are limited to 107 bytes."""
    from headrace.machinery.settings import Settings

    runtime = SandboxRuntime(Settings(home=tmp_path / ("x" * 90) / ("y" * 90)))
    await runtime.start()
    await runtime.stop(pods=True)


async def test_isolation_is_told(node):
    isolation = node.runtime.isolation
    assert (isolation.mode, isolation.network, isolation.rootless) == ("sandbox", True, os.getuid() != 0)
    assert isolation.limits in {"cgroup2", "cgroup1", "watchdog"}
    with pytest.raises(RuntimeUnavailable):
        _ = SandboxRuntime(node.settings).isolation


async def test_a_pod_cannot_reach_what_another_pod_was_given(node, tmp_path):
    """Wherever it looks: the other's files at their places on the host, its processes, its memory."""
    secret = node.settings.run / "agent" / "pods" / "a" / "volumes" / "secret"
    claim = node.settings.volumes / "claim"
    for folder in (secret, claim):
        folder.mkdir(parents=True)
        (folder / "word").write_text("the-magic-word")
    mounts = (Mount("/secret", secret, read_only=True), Mount("/data", claim))
    await node.pod("a", "10.199.0.2")
    script = "cat /secret/word /data/word; echo; cat /secret/word > /tmp/copy; cp /tmp/copy /dev/shm/copy; sleep 1000"
    rich = await node.runtime.start_container(node.spec("sh", "-c", script, pod="a", env={"W": "magic"}, mounts=mounts))
    await eventually(lambda: "the-magic-wordthe-magic-word" in node.output("a", rich.id)[0], timeout=30)
    await node.pod("b", "10.199.0.3")
    home = node.settings.home
    places = [home, secret, claim, "/tmp", "/var/tmp", "/dev/shm", "/run", "/root", "/home", Path.home(), tmp_path]
    look = f"""
    grep -rsl the-magic-word {" ".join(map(str, places))} && echo FOUND
    for p in /proc/[0-9]*; do
        tr '\\0' '\\n' < $p/environ 2>/dev/null | grep -x W=magic && echo FOUND
        for place in {" ".join(map(str, (secret, claim)))} /secret /data /tmp; do
            cat $p/root$place/word $p/root$place/copy 2>/dev/null | grep magic && echo FOUND
        done
    done
    for file in {secret}/word {claim}/word {home}/run/network.json {home}/logs/pods/a/{rich.id}.log; do
        cat $file 2>/dev/null && echo FOUND
    done
    kill -9 {rich.pid} 2>/dev/null && echo FOUND
    ls {home}/run 2>/dev/null && echo FOUND
    echo looked
    """
    for fields in ({}, {"uid": 0}, {"uid": 0, "capabilities": ("DAC_OVERRIDE", "SYS_PTRACE", "SYS_CHROOT", "CHOWN")}):
        ended = await node.sh(look, pod="b", **fields)
        assert ended.out == "looked\n", (fields, ended.out)
    assert (await node.runtime.exec("a", rich.id, ("true",))).exit_code == 0


async def test_a_pod_cannot_talk_to_the_helpers(node):
    """Their sockets are in a hidden folder, and the names of abstract ones are not used."""
    await node.pod()
    run = node.settings.run
    assert (run / "spawner.sock").is_socket()
    ended = await node.sh(f"ls {run}/spawner.sock {run}/network.sock || echo hidden; grep -c @ /proc/net/unix")
    assert ended.out == "hidden\n0\n", ended
