"""What the runtime decides without the kernel: files, sentences, log entries, frames."""

from __future__ import annotations

import dataclasses
import os
import re
import socket

import pytest

from headrace.machinery.settings import Settings
from headrace.node.runtime import diagnosis, podfiles, visible
from headrace.node.runtime.base import ContainerSpec, PodSandbox, WarmStart
from headrace.node.runtime.diagnosis import Facts
from headrace.node.runtime.records import Records, checked
from headrace.node.runtime.sandboxd import wire
from headrace.node.runtime.sandboxd.criolog import LogFile, Stream, stamp

POD = PodSandbox("uid-1", "ns", "web-0", "web-0", "10.199.0.2")
LINUX = Facts("Linux", (6, 1), root=False, in_container=False)


def test_hosts():
    aliases = (("10.0.0.1", ("a", "b")),)
    text = podfiles.hosts(dataclasses.replace(POD, host_aliases=aliases))
    assert "127.0.0.1\tlocalhost\n" in text
    assert text.endswith("10.199.0.2\tweb-0\n\n# Entries added by HostAliases.\n10.0.0.1\ta\tb\n")
    assert podfiles.hosts(dataclasses.replace(POD, host_network=True), "1.2.3.4 h\n").endswith("1.2.3.4 h\n")


def test_resolv_conf():
    pod = dataclasses.replace(POD, dns_search=("ns.svc.cluster.local", "svc.cluster.local"))
    expected = "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.199.0.1\noptions ndots:5\n"
    assert podfiles.resolv_conf(pod, "10.199.0.1") == expected
    assert podfiles.resolv_conf(POD, "10.199.0.1").startswith("nameserver")
    assert podfiles.resolv_conf(dataclasses.replace(POD, host_network=True), "10.199.0.1", "x") == "x"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_user_namespaces": 0}, "sysctl -w user.max_user_namespaces=15000"),
        ({"unprivileged_userns_clone": 0}, "kernel.unprivileged_userns_clone=1"),
        ({"apparmor_restricts_userns": 1}, "kernel.apparmor_restrict_unprivileged_userns=0"),
        ({"in_container": True}, "--privileged"),
        ({"root": True, "max_user_namespaces": 0, "in_container": True}, "--privileged"),
        ({}, "Check with `unshare"),
    ],
)
def test_explanations_say_what_to_do(change, sentence):
    text = diagnosis.explain("unshare: Operation not permitted", dataclasses.replace(LINUX, **change))
    assert sentence in text
    assert "unshare: Operation not permitted" in text


def test_what_need_not_be_tried():
    assert diagnosis.impossible(LINUX) is None
    assert "Darwin" in diagnosis.impossible(dataclasses.replace(LINUX, system="Darwin"))
    assert "5.12" in diagnosis.impossible(dataclasses.replace(LINUX, kernel=(5, 10)))
    assert diagnosis.read_facts().system == "Linux"


def test_hidden_and_exposed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/")
    settings = Settings(home=tmp_path / "home")
    hidden = visible.hidden(settings)
    assert "/" not in hidden
    assert str(settings.home) in hidden
    assert str(settings.cache) in visible.exposed(settings)


def test_interpreters_behind_environments(tmp_path):
    environment = tmp_path / "env"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /far/python/bin\nversion = 3.11\n")
    by_path = ContainerSpec("c", "p", ("python",), {"PATH": f"{environment}/bin:/usr/bin"}, tmp_path)
    by_name = ContainerSpec("c", "p", (f"{environment}/bin/python3",), {}, tmp_path)
    warm = ContainerSpec("c", "p", ("sh",), {}, tmp_path, warm=WarmStart(f"{environment}/bin/python"))
    for spec in (by_path, by_name, warm):
        assert "/far/python" in visible.interpreters(spec)
    assert visible.interpreters(ContainerSpec("c", "p", ("/bin/sh",), {}, tmp_path)) == []


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a\0", "-a", "ü"])
def test_names_that_could_leave_the_folder(name):
    with pytest.raises(ValueError, match="cannot name"):
        checked(name)


def test_pods_are_remembered(tmp_path):
    records = Records(tmp_path)
    pod = dataclasses.replace(POD, host_aliases=(("1.2.3.4", ("a",)),), dns_search=("x",))
    records.write_pod(pod, {"hosts": "h"})
    assert records.read_pod(pod.uid) == pod
    assert records.all_pods() == [pod.uid]
    assert records.read_pod("other") is None


def test_log_streams_split_lines(tmp_path):
    log = LogFile(str(tmp_path / "deep" / "log"))
    stream = Stream("stdout", log)
    for part in (b"a", b"b\nc", b"\n\nd" + b"x" * 40000, b"\nrest"):
        stream.feed(part)
    stream.end()
    entries = [line.split(b" ", 3) for line in (tmp_path / "deep" / "log").read_bytes().splitlines()]
    assert [e[2] for e in entries] == [b"F", b"F", b"F", b"P", b"P", b"F", b"P"]
    assert (
        b"".join(e[3] + (b"\n" if e[2] == b"F" else b"") for e in entries) == b"ab\nc\n\nd" + b"x" * 40000 + b"\nrest"
    )


def test_log_files_keep_some_of_the_past(tmp_path):
    log = LogFile(str(tmp_path / "log"), limit=100)
    for i in range(20):
        log.write(b"%02d" % i + b"x" * 58)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2", "log.3", "log.4"]
    assert (tmp_path / "log").read_bytes()[:2] == b"19"
    assert (tmp_path / "log.4").read_bytes()[:2] == b"15"


def test_a_log_on_a_full_disk_keeps_whole_entries_and_says_what_it_lost(small_disk):
    log = LogFile(str(small_disk.path / "log"))
    line = b"2026-01-01T00:00:00.000000000Z stdout F %04d " + b"x" * 3000 + b"\n"
    written = 0
    while log._lost == 0:
        log.write(line % written)
        written += 1
    for _ in range(9):
        log.write(line % written)
    held = (small_disk.path / "log").read_bytes()
    assert held == b"".join(line % i for i in range(held.count(b"\n")))
    lost = written - held.count(b"\n") + 9
    (small_disk.path / "log").write_bytes(b"")  # as if room had been made
    log._size = 0
    log.write(line % 7777)
    log.write(line % 7778)
    told, *after = (small_disk.path / "log").read_bytes().splitlines(keepends=True)
    assert told.endswith(b" stderr F [%d log entries before this one are lost: the disk did not take them]\n" % lost)
    assert after == [line % 7777, line % 7778]


def test_stamp():
    assert stamp(1_700_000_000_000_000_007) == b"2023-11-14T22:13:20.000000007Z"
    assert re.fullmatch(rb"[0-9T:.-]+Z", stamp(0))


def test_frames():
    buffer = bytearray(wire.encode({"a": "ü"}) + wire.encode({"b": [1]}) + b"\0\0")
    assert list(wire.take_frames(buffer)) == [{"a": "ü"}, {"b": [1]}]
    assert buffer == b"\0\0"
    with pytest.raises(wire.ProtocolError):
        list(wire.take_frames(bytearray(b"\xff" * 8)))


def test_descriptors_travel(tmp_path):
    left, right = socket.socketpair()
    with left, right, (tmp_path / "f").open("w+") as file:
        wire.send(left, {"x": "y" * 300}, [file.fileno()])
        message, fds = wire.receive(right)
        assert message == {"x": "y" * 300}
        os.write(fds[0], b"through")
        os.close(fds[0])
        left.close()
        with pytest.raises(EOFError):
            wire.receive(right)
    assert (tmp_path / "f").read_text() == "through"
