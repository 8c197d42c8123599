"""managedFields as they are read, refused and written."""

import pytest

from headrace.api.identity import ADMIN, User, component
from headrace.apiserver.fieldmanager import managers
from headrace.apiserver.fieldmanager.managers import APPLY, UPDATE, BadManagedFields, Entry
from headrace.apiserver.fieldmanager.tracking import manager_of

GOOD = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}


def entry(manager="m", operation=UPDATE, api_version="v1", subresource="", time=""):
    return Entry(manager, operation, api_version, subresource, time, {"f:a": {}})


def test_there_and_back():
    raw = [{**GOOD, "time": "2026-01-01T00:00:00Z", "subresource": "status"}, {**GOOD, "operation": "Apply"}]
    found = managers.decode(raw, trusted=False)
    assert managers.decode(raw, trusted=True) == found
    assert managers.encode(found) == [raw[1], raw[0]]
    assert managers.decode(None, trusted=False) == {}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({}, ""),
        ("x", "must be a list"),
        (["x"], "must be an object"),
        ([{**GOOD, "operation": "Delete"}], "operation must be"),
        ([{**GOOD, "apiVersion": ""}], "apiVersion must not be empty"),
        ([{**GOOD, "fieldsType": "FieldsV2"}], "fieldsType"),
        ([{k: v for k, v in GOOD.items() if k != "fieldsType"}], "fieldsType"),
        ([{**GOOD, "fieldsV1": {"x": {}}}], "no path element"),
        ([{**GOOD, "manager": 1}], "must be"),
    ],
)
def test_what_cannot_be_read(raw, why):
    if not why:
        assert managers.decode(raw, trusted=False) == {}
        return
    with pytest.raises(BadManagedFields, match=why):
        managers.decode(raw, trusted=False)


def test_the_order():
    found = [
        entry("b", time="2026-01-01T00:00:02Z"),
        entry("a", time="2026-01-01T00:00:02Z"),
        entry("z", time="2026-01-01T00:00:01Z"),
        entry("q", APPLY, time="2026-01-01T00:00:09Z"),
        entry("a", time="2026-01-01T00:00:02Z", subresource="status"),
    ]
    written = managers.encode({e.identity: e for e in found})
    shown = [(e["manager"], e.get("subresource")) for e in written]
    assert shown == [("q", None), ("z", None), ("a", None), ("a", "status"), ("b", None)]


def test_appliers_are_the_same_in_every_version():
    assert entry(operation=APPLY).identity == entry(operation=APPLY, api_version="v2").identity
    assert entry().identity != entry(api_version="v2").identity
    assert entry().identity != entry(subresource="status").identity


@pytest.mark.parametrize(
    ("raw", "reset"), [([], True), ([{}], True), (None, False), ([GOOD], False), ([{}, {}], False)]
)
def test_resets(raw, reset):
    assert managers.is_reset(raw) is reset


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (entry(operation=APPLY), '"m"'),
        (entry(api_version="apps/v1"), '"m" using apps/v1'),
        (entry(subresource="scale", time="T"), '"m" with subresource "scale" using v1 at T'),
    ],
)
def test_how_conflicts_name_managers(made, shown):
    assert managers.shown(made) == shown


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (ADMIN, "kubernetes-admin"),
        (component("notebooks"), "notebooks"),
        (User("system:node:host"), "kubelet"),
        (User("a@b.c"), "a@b.c"),
        (User(""), "unknown"),
    ],
)
def test_users_as_managers(user, name):
    assert manager_of(user) == name
