"""GPUs: found by the files of their driver, and given to whoever asks."""

from __future__ import annotations

import pytest

from headrace.api.core import Container, Pod, PodSpec, ResourceRequirements
from headrace.api.meta import ObjectMeta
from headrace.machinery.settings import Settings
from headrace.node.devices import Devices, Gpu, NoDevice, find, wanted
from headrace.node.folders import PodFolders


def machine(root, count=2, *, known=True):
    """A folder with the files that NVIDIA's driver makes; returns it."""
    (root / "dev" / "nvidia-caps").mkdir(parents=True)
    for number in range(count):
        (root / "dev" / f"nvidia{number}").write_text(f"device {number}")
        if known:
            facts = root / "proc/driver/nvidia/gpus" / f"0000:0{number}:00.0"
            facts.mkdir(parents=True)
            text = f"Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-{number}\nDevice Minor: \t {number}\n"
            (facts / "information").write_text(text)
    for name in ("nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).write_text(name)
    return root


def test_they_are_found(tmp_path):
    model = "NVIDIA H100 80GB HBM3"
    assert find(machine(tmp_path / "a")) == [Gpu(0, "GPU-0", model), Gpu(1, "GPU-1", model)]
    assert find(machine(tmp_path / "b", 1, known=False)) == [Gpu(0)]
    assert find(tmp_path / "nothing") == []


def asks(name, count, **fields):
    return Container(name=name, resources=ResourceRequirements(limits={"nvidia.com/gpu": str(count)}), **fields)


def pod(uid, *containers, init=()):
    return Pod(
        metadata=ObjectMeta(name=uid, uid=uid), spec=PodSpec(containers=list(containers), init_containers=list(init))
    )


def test_how_many_a_pod_needs():
    side = asks("side", 1, restart_policy="Always")
    assert wanted(pod("a", asks("m", 1), asks("n", 2), init=[asks("i", 2), side])) == 4
    assert wanted(pod("a", Container(name="m"))) == 0


@pytest.fixture
def devices(tmp_path):
    made = Devices(PodFolders(Settings(home=tmp_path / "home"), memory=tmp_path), machine(tmp_path / "root", 3))
    made.refresh()
    return made


def names(given):
    mounts, variables = given
    return sorted(m.target for m in mounts), variables


def test_each_container_gets_its_own(devices):
    one = pod("a", asks("m", 1), asks("n", 1), Container(name="none"), init=[asks("i", 2)])
    shared = ["/dev/nvidia-uvm", "/dev/nvidiactl"]
    m, n, none = (devices.give(one, c) for c in one.spec.containers)
    assert names(m) == (
        sorted(["/dev/nvidia0", *shared]),
        {"NVIDIA_VISIBLE_DEVICES": "GPU-0", "CUDA_VISIBLE_DEVICES": "GPU-0"},
    )
    assert names(n)[0] == sorted(["/dev/nvidia1", *shared])
    assert none == ((), {"CUDA_VISIBLE_DEVICES": ""})
    assert names(devices.give(one, one.spec.init_containers[0]))[1]["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"


def test_none_is_given_twice_and_restarts_forget_nothing(devices, tmp_path):
    one, two, three = pod("a", asks("m", 2)), pod("b", asks("m", 1)), pod("c", asks("m", 1))
    devices.give(one, one.spec.containers[0])
    assert names(devices.give(two, two.spec.containers[0]))[1]["CUDA_VISIBLE_DEVICES"] == "GPU-2"
    with pytest.raises(NoDevice, match=r"Requested: 1, Available: 0"):
        devices.give(three, three.spec.containers[0])
    again = Devices(PodFolders(Settings(home=tmp_path / "home"), memory=tmp_path), tmp_path / "root")
    again.refresh()
    for uid in ("a", "b", "c"):
        again.hold(uid)
    with pytest.raises(NoDevice):
        again.give(three, three.spec.containers[0])
    again.release("a")
    assert names(again.give(three, three.spec.containers[0]))[1]["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert names(again.give(two, two.spec.containers[0]))[1]["CUDA_VISIBLE_DEVICES"] == "GPU-2"


def test_a_machine_without_any(tmp_path):
    made = Devices(PodFolders(Settings(home=tmp_path / "home"), memory=tmp_path), tmp_path)
    assert made.refresh() == []
    assert made.give(pod("a"), Container(name="m")) == ((), {})
