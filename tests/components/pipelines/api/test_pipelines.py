"""Pipelines, versions and packages through the REST API."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile

import pytest
import yaml
from aiohttp import FormData
from pipelines_harness import HOME, SPEC

TEXT = yaml.safe_dump(SPEC)
PLATFORM = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {}}}}}


def upload(data: bytes | str, filename: str = "greet.yaml", field: str = "uploadfile") -> FormData:
    form = FormData()
    form.add_field(field, io.BytesIO(data if isinstance(data, bytes) else data.encode()), filename=filename)
    return form


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return buffer.getvalue()


def tarred(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def latest_spec(api, pipeline):
    versions = await api.ok("GET", f"/pipelines/{pipeline['pipeline_id']}/versions")
    return versions["pipeline_versions"][0]["pipeline_spec"]


@pytest.mark.parametrize(
    ("data", "filename"),
    [
        (TEXT, "greet.yaml"),
        (json.dumps(SPEC), "greet.json"),
        (zipped(pipeline_yaml=TEXT, other_txt="x"), "greet.zip"),
        (zipped(greet_yaml=TEXT), "greet.zip"),
        (tarred(pipeline_yaml=TEXT, a_yaml="x"), "greet.tar.gz"),
        (tarred(greet_yml=TEXT), "greet.tgz"),
    ],
)
async def test_packages_of_every_kind(api, data, filename):
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet&description=d", data=upload(data, filename))
    assert pipeline["name"] == pipeline["display_name"] == "greet"
    assert (pipeline["namespace"], pipeline["description"]) == (HOME, "d")
    assert await latest_spec(api, pipeline) == SPEC


async def test_a_second_document_is_the_platform_spec(api):
    data = yaml.safe_dump_all([SPEC, PLATFORM])
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=upload(data))
    assert await latest_spec(api, pipeline) == {"pipeline_spec": SPEC, "platform_spec": PLATFORM}


async def test_text_that_looks_like_a_date_stays_text(api):
    data = TEXT.replace("name: greet", "name: greet\n  description: 2026-01-01", 1)
    pipeline = await api.ok("POST", "/pipelines/upload?name=greet", data=upload(data))
    assert (await latest_spec(api, pipeline))["pipelineInfo"]["description"] == "2026-01-01"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]" for i in range(8)
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "does not contain a pipeline"),
        ("just text", "does not contain a pipeline"),
        ("a: [", "not valid YAML at line"),
        ("a: !!python/object:os.system x", "not valid YAML"),
        ("[" * 300_000, "nested"),
        ("a: &a {b: *a}", "too large once"),
        (BOMB, "too large once"),
        ("1: x", "key that is not a string"),
        ("a: !!binary aGk=", "holds a bytes"),
        ("pipelineInfo: {name: x}", "does not parse"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Workflow", "does not parse"),
        (b"PK\x03\x04 not a zip", "zip archive cannot be read"),
        (b"\x1f\x8b not a tar", "tar.gz archive cannot be read"),
        (zipped(readme_txt="x"), "must contain a file pipeline.yaml"),
        (tarred(a_yaml=TEXT, b_yaml=TEXT), "must contain a file pipeline.yaml"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (zipped(pipeline_yaml="x" * (33 << 20)), "larger than 32 MiB"),
    ],
)
async def test_what_is_no_pipeline_is_refused_with_a_sentence(api, data, words):
    status, code, message = await api.refused("POST", "/pipelines/upload?name=x", data=upload(data))
    assert (status, code) == (400, 3)
    assert words in message
    assert await api.ok("GET", "/pipelines") == {}


async def test_an_upload_without_its_field_or_form_is_refused(api):
    status, _, message = await api.refused("POST", "/pipelines/upload", data=upload(TEXT, field="file"))
    assert status == 400
    assert "uploadfile" in message
    assert (await api.refused("POST", "/pipelines/upload", data=b"x"))[0] == 400
    headers = {"content-type": "multipart/form-data; boundary=x", "authorization": "Bearer editor"}
    url = f"{api.url}/apis/v2beta1/pipelines/upload"
    async with api.session.post(url, data=b"nothing like it", headers=headers) as response:
        assert response.status == 400


async def test_a_body_beyond_the_limit_is_refused(api):
    status, code, message = await api.refused("POST", "/pipelines/upload", data=upload(b"x" * (34 << 20)))
    assert (status, code) == (400, 3)
    assert "larger than" in message


async def test_a_name_is_taken_once_per_namespace(api):
    await api.ok("POST", "/pipelines/upload?name=greet", data=upload(TEXT))
    status, code, message = await api.refused("POST", "/pipelines/upload?name=greet", data=upload(TEXT))
    assert (status, code) == (409, 6)
    assert "upload a new version" in message
    await api.ok("POST", "/pipelines/upload?name=greet", data=upload(TEXT), user="other")


async def test_names_come_from_the_query_then_the_file(api):
    named = await api.ok("POST", "/pipelines/upload?display_name=Greeter", data=upload(TEXT))
    assert named["name"] == "Greeter"
    by_file = await api.ok("POST", "/pipelines/upload", data=upload(TEXT, "by-file.yaml"))
    assert by_file["name"] == "by-file.yaml"
    assert (await api.refused("POST", f"/pipelines/upload?name={'x' * 129}", data=upload(TEXT)))[0] == 400
    assert await api.ok("GET", "/pipelines/names/Greeter") == named
    assert (await api.refused("GET", "/pipelines/names/nobody"))[:2] == (404, 5)


async def test_versions_come_and_go(api):
    pipeline = await api.ok("POST", "/pipelines", {"name": "greet"})
    path = f"/pipelines/{pipeline['pipeline_id']}"
    query = f"/pipelines/upload_version?pipelineid={pipeline['pipeline_id']}"
    assert await api.ok("GET", f"{path}/versions") == {}
    first = await api.ok("POST", f"{query}&name=v1&description=one", data=upload(TEXT))
    assert (first["name"], first["description"]) == ("v1", "one")
    assert (await api.refused("POST", f"{query}&name=v1", data=upload(TEXT)))[:2] == (409, 6)
    second = await api.ok("POST", f"{query}&name=v2", data=upload(TEXT))
    listed = await api.ok("GET", f"{path}/versions?sort_by=created_at desc")
    assert [v["name"] for v in listed["pipeline_versions"]] == ["v2", "v1"]
    assert await api.ok("GET", f"{path}/versions/{first['pipeline_version_id']}") == first
    status, code, message = await api.refused("DELETE", path)
    assert (status, code) == (400, 9)
    assert "cascade=true" in message
    for version in (first, second):
        await api.ok("DELETE", f"{path}/versions/{version['pipeline_version_id']}")
    assert (await api.refused("GET", f"{path}/versions/{first['pipeline_version_id']}"))[:2] == (404, 5)
    await api.ok("DELETE", path)
    assert (await api.refused("GET", path))[:2] == (404, 5)


async def test_a_version_is_reached_through_its_own_pipeline_only(api):
    one = await api.ok("POST", "/pipelines/upload?name=one", data=upload(TEXT))
    two = await api.ok("POST", "/pipelines/upload?name=two", data=upload(TEXT))
    version = (await api.ok("GET", f"/pipelines/{one['pipeline_id']}/versions"))["pipeline_versions"][0]
    wrong = f"/pipelines/{two['pipeline_id']}/versions/{version['pipeline_version_id']}"
    assert (await api.refused("GET", wrong))[0] == 404
    assert (await api.refused("DELETE", wrong))[0] == 404


async def test_versions_need_their_pipeline(api):
    assert (await api.refused("POST", "/pipelines/upload_version", data=upload(TEXT)))[:2] == (400, 3)
    assert (await api.refused("POST", "/pipelines/upload_version?pipelineid=x", data=upload(TEXT)))[:2] == (404, 5)


def predicates(*given: dict) -> dict[str, str]:
    return {"filter": json.dumps({"predicates": list(given)})}


def tagged(key: str, value: str) -> dict[str, str]:
    return predicates({"operation": "EQUALS", "key": f"tags.{key}", "string_value": value})


async def test_tags_on_upload_and_create_and_as_filters(api):
    tags = {"team": "ml-ops", "Env": "prod"}
    first = await api.ok("POST", "/pipelines/upload?name=a", data=upload(TEXT), params={"tags": json.dumps(tags)})
    assert first["tags"] == tags
    second = await api.ok("POST", "/pipelines", {"name": "b", "tags": {"team": "web"}})
    await api.ok("POST", "/pipelines", {"name": "c"})
    path = f"/pipelines/{first['pipeline_id']}"
    assert (await api.ok("GET", path))["tags"] == tags
    assert (await api.ok("GET", "/pipelines/names/b"))["tags"] == {"team": "web"}
    listed = (await api.ok("GET", "/pipelines"))["pipelines"]
    assert {p["name"]: p.get("tags") for p in listed} == {"a": tags, "b": {"team": "web"}, "c": None}

    async def names(query: dict[str, str]) -> list[str]:
        return sorted(p["name"] for p in (await api.ok("GET", "/pipelines", params=query)).get("pipelines", []))

    assert await names(tagged("team", "web")) == ["b"]
    assert await names(tagged("Env", "web")) == []
    both = {"operation": "IN", "key": "tags.team", "string_values": {"values": ["web", "ml-ops"]}}
    assert await names(predicates(both)) == ["a", "b"]
    assert await names(predicates(both, {"operation": 1, "key": "name", "stringValue": "a"})) == ["a"]
    wrong = predicates({"operation": "IS_SUBSTRING", "key": "tags.team", "string_value": "w"})
    assert (await api.refused("GET", "/pipelines", params=wrong))[:2] == (400, 3)

    query = {"name": "v2", "pipelineid": first["pipeline_id"], "tags": '{"stage": "test"}'}
    version = await api.ok("POST", "/pipelines/upload_version", data=upload(TEXT), params=query)
    assert version["tags"] == {"stage": "test"}
    found = await api.ok("GET", f"{path}/versions", params=tagged("stage", "test"))
    assert [v["name"] for v in found["pipeline_versions"]] == ["v2"]

    await api.ok("DELETE", f"/pipelines/{second['pipeline_id']}")
    await api.ok("DELETE", f"{path}?cascade=true")
    assert await names(tagged("team", "ml-ops")) == []


async def test_what_a_patch_names_changes_and_nothing_else(api):
    made = await api.ok("POST", "/pipelines/upload?name=a&description=d", data=upload(TEXT))
    path = f"/pipelines/{made['pipeline_id']}"
    changed = await api.ok("PATCH", path, {"display_name": "A", "tags": {"x": "1"}})
    assert changed == made | {"display_name": "A", "tags": {"x": "1"}}
    assert await api.ok("PATCH", path, {}) == changed
    assert await api.ok("PATCH", path, changed | {"description": ""}) == {
        key: value for key, value in changed.items() if key != "description"
    }
    assert "tags" not in await api.ok("PATCH", path, {"tags": {}})
    assert (await api.ok("GET", path))["name"] == "a"

    (version,) = (await api.ok("GET", f"{path}/versions"))["pipeline_versions"]
    mine = f"{path}/versions/{version['pipeline_version_id']}"
    again = await api.ok("PATCH", mine, version | {"display_name": "first", "tags": {"y": "2"}})
    assert again == version | {"display_name": "first", "tags": {"y": "2"}}
    assert await api.ok("GET", mine) == again
    assert (await api.refused("PATCH", f"{path}/versions/none", {}))[:2] == (404, 5)
    assert (await api.refused("PATCH", "/pipelines/none", {}))[:2] == (404, 5)
    for target in (path, mine):
        assert (await api.refused("PATCH", target, {"display_name": "x"}, user="viewer"))[:2] == (403, 7)
        assert (await api.refused("PATCH", target, {"name": "other"}))[:2] == (400, 3)


@pytest.mark.parametrize(
    "tags",
    [
        {"": "x"},
        {"a.b": "x"},
        {"k" * 64: "x"},
        {"k": "v" * 64},
        {str(n): "x" for n in range(21)},
    ],
)
async def test_tags_beyond_upstreams_bounds_are_refused(api, tags):
    assert (await api.refused("POST", "/pipelines", {"name": "p", "tags": tags}))[:2] == (400, 3)
    query = {"name": "p", "tags": json.dumps(tags)}
    assert (await api.refused("POST", "/pipelines/upload", data=upload(TEXT), params=query))[:2] == (400, 3)
    query = {"name": "p", "tags": "[1]"}
    assert (await api.refused("POST", "/pipelines/upload", data=upload(TEXT), params=query))[:2] == (400, 3)
    assert "pipelines" not in await api.ok("GET", "/pipelines")
