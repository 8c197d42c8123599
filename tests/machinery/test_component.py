"""Every component is one value of the same shape; what it brings is plain data that can be applied."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import pytest

import headrace.components
from headrace.api import _wire
from headrace.api.meta import Object
from headrace.machinery.component import Component
from headrace.machinery.settings import Settings

FOLDER = Path(headrace.components.__file__).parent
NAMES = sorted(p.parent.name for p in FOLDER.glob("*/component.py"))
SETTINGS = Settings(home=Path("/nonexistent/home"))


def component(name) -> Component:
    return importlib.import_module(f"headrace.components.{name}.component").COMPONENT


def test_there_are_components():
    assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_component_is_one_frozen_value_named_as_its_folder(name):
    value = component(name)
    assert type(value) is Component
    assert value.name == name
    assert value.title
    assert callable(value.build)
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.name = "other"


@pytest.mark.parametrize("name", NAMES)
def test_a_component_requires_only_others_that_exist_and_never_in_a_circle(name):
    def visit(current, path):
        assert current not in path, f"{' -> '.join((*path, current))}"
        assert current in NAMES, f"{path[-1] if path else name} requires {current}, which does not exist"
        for required in component(current).requires:
            visit(required, (*path, current))

    visit(name, ())


@pytest.mark.parametrize("name", NAMES)
def test_the_objects_of_a_component_are_named_plain_json_and_the_same_each_time(name):
    value = component(name)
    objects = value.objects(SETTINGS)
    assert _wire.decode_any(_wire.encode(objects)) == objects
    assert value.objects(SETTINGS) == objects
    identities = [
        (o["apiVersion"], o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in objects
    ]
    assert all(api and kind and obj for api, kind, _, obj in identities)
    assert len(set(identities)) == len(identities)


def test_a_kind_belongs_to_one_component():
    owners = [(kind.INFO.resource, name) for name in NAMES for kind in component(name).kinds]
    assert all(issubclass(kind, Object) for name in NAMES for kind in component(name).kinds)
    resources = [resource for resource, _ in owners]
    assert len(set(resources)) == len(resources), owners
