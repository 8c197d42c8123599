"""Files of volumes: what is in them, and that they change together."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headrace.api.core import (
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    HostPathVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    PodSpec,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    Secret,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from headrace.api.meta import ObjectMeta
from headrace.node.volumes import VolumeError, content, directories, files
from headrace.node.volumes.files import File
from headrace.node.volumes.pod import references
from headrace.node.volumes.tokens import PodTokens
from headrace.testing import FakeClock


def visible(folder: Path) -> dict[str, bytes]:
    """What a program that walks the folder sees."""
    found = {}
    for top in folder.iterdir():
        if not top.name.startswith(".."):
            for file in [top] if top.is_file() else top.rglob("*"):
                found[str(file.relative_to(folder))] = file.read_bytes()
    return found


def test_files_change_together(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    assert files.write(folder, {"a": File(b"1"), "deep/b": File(b"2", 0o600)})
    assert visible(folder) == {"a": b"1", "deep/b": b"2"}
    assert (folder / "a").stat().st_mode & 0o777 == 0o644
    assert (folder / "deep" / "b").stat().st_mode & 0o777 == 0o600
    assert str((folder / "a").readlink()) == "..data/a"
    held = os.open(folder / "..data" / "a", os.O_RDONLY)
    assert not files.write(folder, {"a": File(b"1"), "deep/b": File(b"2", 0o600)}), "nothing to do"
    assert files.write(folder, {"a": File(b"new"), "c": File(b"3")})
    assert visible(folder) == {"a": b"new", "c": b"3"}
    assert os.read(held, 10) == b"1", "who has the old file open reads the old file"
    os.close(held)
    assert len([p for p in folder.iterdir() if p.name.startswith("..") and not p.is_symlink()]) == 1
    assert files.write(folder, {})
    assert visible(folder) == {}


@pytest.mark.parametrize("path", ["", "/abs", "../up", "a/../../b", "..data", "..x/y"])
def test_paths_that_escape(path: str) -> None:
    assert files.escapes(path)


@dataclass
class Objects:
    config_maps: dict[str, ConfigMap] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        return self.config_maps.get(f"{namespace}/{name}")

    def secret(self, namespace: str, name: str) -> Secret | None:
        return self.secrets.get(f"{namespace}/{name}")

    def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        return None

    def volume(self, name: str) -> PersistentVolume | None:
        return None


class Tokens:
    async def token(self, projection: ServiceAccountTokenProjection) -> str:
        return f"token for {projection.audience}"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


OBJECTS = Objects(
    {"ns/cm": ConfigMap(data={"a": "1", "b": "2"}, binary_data={"bin": encoded("\x00")})},
    {"ns/s": Secret(data={"key": encoded("hush")}), "ns/broken": Secret(data={"key": "!!"})},
)
POD = Pod(
    metadata=ObjectMeta(name="p", namespace="ns", uid="u", labels={"l": "v"}),
    spec=PodSpec(containers=[Container(name="c")]),
)


async def made(volume: Volume) -> dict[str, tuple[bytes, int]]:
    source = content.Source(
        pod=POD,
        lookup=OBJECTS,
        tokens=Tokens(),
        pod_ip="1.2.3.4",
        host_ip="1.1.1.1",
        node_name="n",
        allocatable={"cpu": "4"},
    )
    found = await content.files(volume, source)
    assert found is not None
    return {path: (file.content, file.mode) for path, file in found.items()}


async def test_config_maps_and_secrets() -> None:
    whole = Volume(name="v", config_map=ConfigMapVolumeSource(name="cm"))
    assert await made(whole) == {"a": (b"1", 0o644), "b": (b"2", 0o644), "bin": (b"\x00", 0o644)}
    items = [KeyToPath(key="b", path="x/y", mode=0o600)]
    chosen = Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", items=items, default_mode=0o444))
    assert await made(chosen) == {"x/y": (b"2", 0o600)}
    secret = Volume(name="v", secret=SecretVolumeSource(secret_name="s", default_mode=0o400))
    assert await made(secret) == {"key": (b"hush", 0o400)}
    absent = Volume(name="v", secret=SecretVolumeSource(secret_name="none", optional=True))
    assert await made(absent) == {}


async def test_projected() -> None:
    name = DownwardAPIVolumeFile(path="labels", field_ref=ObjectFieldSelector(field_path="metadata.labels"))
    cpu = ResourceFieldSelector(resource="limits.cpu", container_name="c")
    sources = [
        VolumeProjection(config_map=SecretProjection(name="cm", items=[KeyToPath(key="a", path="a")])),
        VolumeProjection(secret=SecretProjection(name="s")),
        VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token", audience="x")),
        VolumeProjection(
            downward_api=DownwardAPIProjection(items=[name, DownwardAPIVolumeFile(path="cpu", resource_field_ref=cpu)])
        ),
    ]
    volume = Volume(name="v", projected=ProjectedVolumeSource(sources=sources, default_mode=0o440))
    assert await made(volume) == {
        "a": (b"1", 0o440),
        "key": (b"hush", 0o440),
        "token": (b"token for x", 0o440),
        "labels": (b'l="v"', 0o440),
        "cpu": (b"4", 0o440),
    }


@pytest.mark.parametrize(
    ("volume", "says"),
    [
        (Volume(name="v", config_map=ConfigMapVolumeSource(name="none")), 'configmap "none" not found'),
        (Volume(name="v", secret=SecretVolumeSource(secret_name="none")), 'secret "none" not found'),
        (Volume(name="v", secret=SecretVolumeSource(secret_name="broken")), "key key of Secret broken is not base64"),
        (
            Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", items=[KeyToPath(key="z", path="z")])),
            "references non-existent config key: z",
        ),
        (
            Volume(name="v", config_map=ConfigMapVolumeSource(name="cm", items=[KeyToPath(key="a", path="../z")])),
            "must be relative and stay inside",
        ),
        (
            Volume(name="v", projected=ProjectedVolumeSource(sources=[VolumeProjection()])),
            "a source of the projected volume is not supported",
        ),
    ],
)
async def test_what_cannot_be_made(volume: Volume, says: str) -> None:
    with pytest.raises(VolumeError, match=says):
        await made(volume)


async def test_tokens_are_kept_and_renewed_in_time() -> None:
    class Issuer:
        calls: list[tuple[str, str, int]] = []

        async def request_token(self, namespace: str, account: str, **wanted: object) -> str:
            self.calls.append((namespace, account, wanted["expiration_seconds"]))  # type: ignore[arg-type]
            assert (wanted["pod_name"], wanted["pod_uid"]) == ("p", "u")
            return f"token {len(self.calls)}"

    clock, issuer = FakeClock(), Issuer()
    tokens = PodTokens(issuer, clock, POD)  # type: ignore[arg-type]
    wanted = ServiceAccountTokenProjection(path="t", expiration_seconds=1000)
    assert tokens.renew_in is None
    assert await tokens.token(wanted) == "token 1"
    assert tokens.renew_in == 800
    clock.step(799)
    assert await tokens.token(wanted) == "token 1"
    clock.step(1)
    assert await tokens.token(wanted) == "token 2"
    assert issuer.calls == [("ns", "default", 1000)] * 2


@pytest.mark.parametrize(
    ("type_", "exists", "says"),
    [
        ("", None, ""),
        ("Directory", "directory", ""),
        ("Directory", "file", "is not a directory"),
        ("Directory", None, "no such file or directory"),
        ("DirectoryOrCreate", None, ""),
        ("DirectoryOrCreate", "file", "is not a directory"),
        ("File", "file", ""),
        ("File", "directory", "is not a file"),
        ("FileOrCreate", None, ""),
        ("Socket", "file", "is not a socket file"),
        ("Nonsense", "file", "type Nonsense is not known"),
    ],
)
def test_host_paths(tmp_path: Path, type_: str, exists: str | None, says: str) -> None:
    path = tmp_path / "x" / "y" if type_ == "DirectoryOrCreate" and exists is None else tmp_path / "x"
    if exists == "file":
        path.write_text("")
    elif exists == "directory":
        path.mkdir()
    source = HostPathVolumeSource(path=str(path), type=type_)
    if says:
        with pytest.raises(VolumeError, match=says):
            directories.host_path(source)
    else:
        assert directories.host_path(source) == path
        assert path.exists()


@pytest.mark.parametrize("path", ["relative", "/a/../b"])
def test_host_paths_are_absolute(path: str) -> None:
    with pytest.raises(VolumeError, match="must be absolute and without"):
        directories.host_path(HostPathVolumeSource(path=path))


def test_sub_paths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "inner").mkdir()
    (root / "good").symlink_to("inner")
    (root / "bad").symlink_to("..")
    assert directories.inside(root, "new/deep") == root / "new" / "deep"
    assert (root / "new" / "deep").is_dir()
    assert directories.inside(root, "good/x") == root / "inner" / "x"
    for path, says in (("../x", "without"), ("/x", "relative"), ("bad", "leads out"), ("bad/x", "leads out")):
        with pytest.raises(VolumeError, match=says):
            directories.inside(root, path)
    assert not (tmp_path / "x").exists()


def test_references_name_every_object() -> None:
    pod = Pod(
        spec=PodSpec(
            volumes=[
                Volume(name="a", config_map=ConfigMapVolumeSource(name="cm")),
                Volume(
                    name="b",
                    projected=ProjectedVolumeSource(sources=[VolumeProjection(secret=SecretProjection(name="s"))]),
                ),
            ]
        )
    )
    assert references(pod) == {("ConfigMap", "cm"), ("Secret", "s")}


def test_host_paths_keep_out_of_the_platforms_home(tmp_path: Path) -> None:
    home = tmp_path / "user" / ".headrace"
    for folder in (home / "pki", tmp_path / "user" / "data"):
        folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(home / "pki")
    for path in (home, home / "pki", home / "new", tmp_path / "link", tmp_path / "user", Path("/")):
        with pytest.raises(VolumeError, match="platform's"):
            directories.host_path(HostPathVolumeSource(path=str(path), type="DirectoryOrCreate"), keep_out=home)
    assert not (home / "new").exists()
    fine = tmp_path / "user" / "data"
    (tmp_path / "other").symlink_to(fine)
    for path in (fine, tmp_path / "other"):
        assert directories.host_path(HostPathVolumeSource(path=str(path)), keep_out=home) == fine
