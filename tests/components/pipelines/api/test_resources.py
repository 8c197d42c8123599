"""Pipelines as Kubernetes objects: a second door to the store, with the sentences of the first."""

from __future__ import annotations

import pytest
from aiohttp import FormData
from pipelines_harness import HOME, SPEC
from yaml import safe_dump

from headrace.api import conditions
from headrace.api.errors import BadRequest, NotFound
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.api.packages import parse
from headrace.components.pipelines.controller.resources import (
    FINALIZER,
    PipelineRecords,
    PipelineVersionRecords,
    version_validator,
)
from headrace.components.pipelines.store.models import Spec
from headrace.components.pipelines.types.resources import (
    PipelineObject,
    PipelineSettings,
    PipelineVersionObject,
    PipelineVersionSettings,
)
from headrace.machinery.clock import SystemClock
from headrace.testing.eventually import eventually

NOT_A_SPEC = {"pipelineInfo": {"name": "Not OK"}, "root": {"dag": {"tasks": {}}}}


@pytest.fixture
async def door(api):
    """The API with the controllers beside it; a URI is read from this dictionary."""
    client, clock, manager = api.cluster.client, SystemClock(), api.cluster.manager

    async def read(namespace: str, uri: str) -> Spec:
        assert (namespace, uri) == (HOME, "minio://mlpipeline/greet.yaml")
        return Spec(SPEC)

    manager.add(PipelineRecords(client, clock, api.catalog), client)
    manager.add(PipelineVersionRecords(client, clock, api.catalog, parse, read), client)
    await manager.start()
    try:
        yield api
    finally:
        await manager.stop()


def pipeline(name: str = "greet", **spec) -> PipelineObject:
    return PipelineObject(metadata=ObjectMeta(name=name, namespace=HOME), spec=PipelineSettings(**spec))


def version(name: str = "greet-v1", **spec) -> PipelineVersionObject:
    given = {"pipeline_name": "greet", "pipeline_spec": SPEC} | spec
    return PipelineVersionObject(metadata=ObjectMeta(name=name, namespace=HOME), spec=PipelineVersionSettings(**given))


async def told(api, kind, name: str, reason: str):
    """The object, once its condition gives this reason."""

    async def there():
        found = await api.cluster.client.get(kind, name, HOME)
        condition = conditions.get(found.status.conditions, "Ready")
        return found if condition is not None and condition.reason == reason else None

    return await eventually(there)


async def gone(api, kind, name: str) -> None:
    async def missing() -> bool:
        try:
            await api.cluster.client.get(kind, name, HOME)
        except NotFound:
            return True
        return False

    await eventually(missing)


def sentence(obj) -> str:
    return conditions.get(obj.status.conditions, "Ready").message


async def test_objects_are_recorded_and_can_be_run(door):
    client = door.cluster.client
    await client.create(version(tags={"k": "v"}))
    await told(door, PipelineVersionObject, "greet-v1", "PipelineNotFound")
    await client.create(pipeline(display_name="Greet", description="d", tags={"team": "a"}))
    made = await told(door, PipelineObject, "greet", "Recorded")
    first = await told(door, PipelineVersionObject, "greet-v1", "Recorded")
    assert first.metadata.owner_references[0].uid == made.metadata.uid
    shown = await door.ok("GET", f"/pipelines/{made.metadata.uid}")
    assert (shown["name"], shown["display_name"], shown["description"], shown["tags"]) == (
        "greet",
        "Greet",
        "d",
        {"team": "a"},
    )
    (listed,) = (await door.ok("GET", f"/pipelines/{made.metadata.uid}/versions"))["pipeline_versions"]
    assert (listed["pipeline_version_id"], listed["pipeline_spec"]) == (first.metadata.uid, SPEC)
    body = {
        "display_name": "r",
        "pipeline_version_reference": {"pipeline_id": made.metadata.uid},
        "runtime_config": {"parameters": {"who": "x"}},
    }
    run = await door.ok("POST", "/runs", body)
    assert run["pipeline_version_reference"]["pipeline_version_id"] == first.metadata.uid


async def test_what_may_change_changes_and_the_rest_is_refused(door):
    client = door.cluster.client
    await client.create(pipeline())
    await client.create(version())
    made = await told(door, PipelineObject, "greet", "Recorded")
    first = await told(door, PipelineVersionObject, "greet-v1", "Recorded")
    await client.patch(PipelineObject, "greet", {"spec": {"displayName": "New", "tags": {"a": "b"}}}, HOME)
    await client.patch(PipelineVersionObject, "greet-v1", {"spec": {"displayName": "One"}}, HOME)

    async def changed() -> bool:
        record = await door.catalog.get_pipeline(made.metadata.uid)
        mine = await door.catalog.get_version(first.metadata.uid)
        return (record.display_name, record.tags, mine.display_name) == ("New", {"a": "b"}, "One")

    await eventually(changed)
    await client.patch(PipelineVersionObject, "greet-v1", {"spec": {"pipelineSpec": {"sdkVersion": "other"}}}, HOME)
    refused = await told(door, PipelineVersionObject, "greet-v1", "Immutable")
    assert "stays as it was created" in sentence(refused)
    assert (await door.catalog.get_version(first.metadata.uid)).spec.pipeline_spec == SPEC


async def test_a_spec_that_is_wrong_is_refused_with_the_sentence_of_the_upload(door):
    await door.cluster.client.create(pipeline())
    await door.cluster.client.create(version(pipeline_spec=NOT_A_SPEC))
    refused = await told(door, PipelineVersionObject, "greet-v1", "InvalidPipelineSpec")
    form = FormData()
    form.add_field("uploadfile", safe_dump(NOT_A_SPEC), filename="p.yaml")
    _, _, message = await door.refused("POST", "/pipelines/upload?name=x", data=form)
    assert sentence(refused) == message
    assert (await door.cluster.client.get(PipelineVersionObject, "greet-v1", HOME)).metadata.finalizers == []


@pytest.fixture
def validated(door):
    """As the platform has it: what is wrong is refused when it is applied."""
    validator = version_validator(parse)
    info = validator.kind.INFO
    door.cluster.registry.core.admission.validators[info.group, info.kind] = validator
    return door


async def test_a_version_that_is_wrong_is_refused_when_it_is_applied(validated):
    client = validated.cluster.client
    with pytest.raises(BadRequest, match=r"The pipeline spec is invalid: .*Not OK"):
        await client.create(version(pipeline_spec=NOT_A_SPEC))
    with pytest.raises(BadRequest, match=r"needs spec.pipelineSpec or spec.pipelineSpecURI"):
        await client.create(version(pipeline_spec=None))
    assert (await client.list(PipelineVersionObject, HOME)).items == []
    await client.create(version("by-uri", pipeline_spec=None, pipeline_spec_uri="minio://mlpipeline/greet.yaml"))
    await client.create(version(tags={"a": "b"}))
    await client.patch(PipelineVersionObject, "greet-v1", {"spec": {"displayName": "One", "tags": {"a": "c"}}}, HOME)
    await client.patch(PipelineVersionObject, "greet-v1", {"metadata": {"labels": {"x": "y"}}}, HOME)
    for change in ({"pipelineSpec": {"sdkVersion": "other"}}, {"description": "d"}, {"pipelineName": "other"}):
        with pytest.raises(BadRequest, match="stays as it was created"):
            await client.patch(PipelineVersionObject, "greet-v1", {"spec": change}, HOME)
    kept = (await client.get(PipelineVersionObject, "greet-v1", HOME)).spec
    assert (kept.display_name, kept.tags, kept.pipeline_spec) == ("One", {"a": "c"}, SPEC)
    await client.delete(PipelineVersionObject, "greet-v1", HOME)


async def test_a_version_is_read_from_its_uri(door):
    await door.cluster.client.create(pipeline())
    await door.cluster.client.create(version(pipeline_spec=None, pipeline_spec_uri="minio://mlpipeline/greet.yaml"))
    first = await told(door, PipelineVersionObject, "greet-v1", "Recorded")
    assert (await door.catalog.get_version(first.metadata.uid)).spec.pipeline_spec == SPEC


async def test_a_name_that_is_taken_is_said(door):
    await door.ok("POST", "/pipelines", {"name": "greet"})
    await door.cluster.client.create(pipeline())
    refused = await told(door, PipelineObject, "greet", "NameTaken")
    assert "A pipeline named 'greet' exists" in sentence(refused)
    await door.cluster.client.delete(PipelineObject, "greet", HOME)
    await gone(door, PipelineObject, "greet")
    assert len((await door.ok("GET", "/pipelines"))["pipelines"]) == 1


async def test_with_the_objects_their_records_go(door):
    client = door.cluster.client
    await client.create(pipeline())
    await client.create(version())
    made = await told(door, PipelineObject, "greet", "Recorded")
    first = await told(door, PipelineVersionObject, "greet-v1", "Recorded")
    assert FINALIZER in first.metadata.finalizers
    await client.delete(PipelineVersionObject, "greet-v1", HOME)
    await gone(door, PipelineVersionObject, "greet-v1")
    assert await door.catalog.get_version(first.metadata.uid) is None
    await client.delete(PipelineObject, "greet", HOME)
    await gone(door, PipelineObject, "greet")
    assert await door.catalog.get_pipeline(made.metadata.uid) is None


async def test_what_the_rest_api_deletes_has_no_object_either(door):
    client = door.cluster.client
    await client.create(pipeline())
    await client.create(version())
    made = await told(door, PipelineObject, "greet", "Recorded")
    first = await told(door, PipelineVersionObject, "greet-v1", "Recorded")
    await door.ok("DELETE", f"/pipelines/{made.metadata.uid}/versions/{first.metadata.uid}")
    await gone(door, PipelineVersionObject, "greet-v1")
    await door.ok("DELETE", f"/pipelines/{made.metadata.uid}")
    await gone(door, PipelineObject, "greet")
    assert await door.ok("GET", "/pipelines") == {}


async def test_who_may_use_this_door(api):
    from pipelines_harness import USERS

    from headrace.api.errors import Forbidden

    await api.cluster.client_for(USERS["editor"]).create(pipeline())
    await api.cluster.client_for(USERS["editor"]).create(version())
    viewer = api.cluster.client_for(USERS["viewer"])
    assert len((await viewer.list(PipelineVersionObject, HOME)).items) == 1
    for user in ("viewer", "other", "nobody"):
        client = api.cluster.client_for(USERS[user])
        with pytest.raises(Forbidden):
            await client.create(version("another"))
        with pytest.raises(Forbidden):
            await client.delete(PipelineObject, "greet", HOME)
    for user in ("other", "nobody"):
        with pytest.raises(Forbidden):
            await api.cluster.client_for(USERS[user]).list(PipelineVersionObject, HOME)
