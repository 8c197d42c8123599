"""What image names stand for."""

from __future__ import annotations

import pytest

from headrace.node.images import catalogue, preload, reference


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("python", "python", "latest"),
        ("python:3.11-slim", "python", "3.11-slim"),
        ("docker.io/library/python:3.12", "python", "3.12"),
        ("public.ecr.aws/docker/library/python:3.12", "python", "3.12"),
        ("localhost:5000/python:3.12", "python", "3.12"),
        ("registry.example.com/team/tool:v1", "team/tool", "v1"),
        ("team/tool", "team/tool", "latest"),
        ("python:3.11@sha256:0123abcd", "python", "3.11"),
    ],
)
def test_reference(image: str, repository: str, tag: str) -> None:
    assert reference.parse(image) == reference.Reference(repository, tag)


@pytest.mark.parametrize("image", ["", "Python:3.11", "python:", "a b", "python:3.11@", "-x"])
def test_reference_refuses(image: str) -> None:
    assert reference.parse(image) is None


@pytest.mark.parametrize(
    ("image", "kind", "python"),
    [
        ("python:3.11", "python", (3, 11)),
        ("python:3.11.9-slim-bookworm", "python", (3, 11)),
        ("python:3", "python", None),
        ("python", "python", None),
        ("python:slim", "python", None),
        ("python:3.14rc1", "python", (3, 14)),
        ("registry.access.redhat.com/ubi9/python-311:latest", "python", (3, 11)),
        ("ubi8/python-39", "python", (3, 9)),
        ("kserve/sklearnserver:v0.15.2", "python", None),
        ("docker.io/kserve/storage-initializer:v0.15.2", "python", None),
        ("busybox:1.36", "userland", None),
        ("library/alpine", "userland", None),
        ("debian:12", "userland", None),
        ("curlimages/curl:8.1", "userland", None),
    ],
)
def test_match(image: str, kind: str, python: tuple[int, int] | None) -> None:
    found = catalogue.match(image)
    assert found is not None
    assert (found.entry.kind, found.python) == (kind, python)


@pytest.mark.parametrize(
    "image",
    ["python:2.7", "someone/python:3.11", "tensorflow/serving", "kserve/xgbserver", "pythonista", "my.io/busyboxes"],
)
def test_no_match_is_never_something_similar(image: str) -> None:
    assert catalogue.match(image) is None


def test_entrypoints() -> None:
    server = catalogue.match("kserve/sklearnserver:v1")
    assert server is not None
    assert server.entry.entrypoint == ("python3", "/opt/headrace/sklearnserver")
    assert "scikit-learn==1.7.2" in server.entry.packages
    curl = catalogue.match("curlimages/curl")
    assert curl is not None
    assert curl.entry.entrypoint == ("curl",)


def test_unknown_says_what_to_do() -> None:
    sentence = catalogue.unknown("acme/model:1")
    assert '"acme/model:1"' in sentence
    assert "headrace.dev/requirements" in sentence


def test_preload_follows_the_packages() -> None:
    packages = ("kfp", "numpy", "something")
    assert preload.modules(packages, {"_KFP_RUNTIME": "true"}) == (
        "numpy",
        "kfp.dsl.executor_main",
        "runpy",
        "shutil",
        "traceback",
        "resource",
        "encodings.idna",
        "headrace.s3client",
        "headrace.kfp_launcher.launch",
        "headrace.kfp_launcher.__main__",
        "headrace.kfp_launcher.rehearsal",
    )
    assert preload.modules(packages, {}) == ("numpy",), "the whole SDK is slow, and needs more packages than are there"
    assert preload.modules(("something",), {}) == ()
