"""Definitions from wire types."""

import enum
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from headrace.api.apiextensions import PrinterColumn
from headrace.api.core import PodTemplateSpec
from headrace.api.meta import IntOrString, KindInfo, Object, Quantity, Struct, Time
from headrace.apiserver.schema.crd import crd_for, schema_for
from headrace.apiserver.schema.structural import compile_schema


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(Struct):
    """A part."""

    name: Annotated[str, msgspec.Meta(min_length=1, pattern="^[a-z]+$")]
    """What it is called."""
    weight: float = 1.0


class Loose(Struct):
    """Keeps what it does not name."""

    PRESERVE_UNKNOWN: ClassVar[bool] = True
    known: str = ""


class ThingSpec(Struct):
    """What somebody wants."""

    parts: list[Part] = []
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    color: Color = Color.RED
    mode: Literal["fast", "slow"] = "fast"
    port: IntOrString | None = None
    memory: Quantity | None = None
    labels: dict[str, str] = {}
    extra: dict[str, Any] = {}
    since: Time | None = None
    template: PodTemplateSpec | None = None
    loose: Loose | None = None
    strict: bool = False


class Thing(Object, kw_only=True):
    """A thing."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "test.headrace.dev",
        "v1beta1",
        "Thing",
        "things",
        short_names=("th",),
        subresources=frozenset({"status", "scale"}),
    )
    COLUMNS: ClassVar = (PrinterColumn(name="Size", type="integer", json_path=".spec.size"),)
    spec: ThingSpec
    status: dict[str, Any] = {}


def test_the_definition():
    made = crd_for(Thing)
    assert made["metadata"]["name"] == "things.test.headrace.dev"
    spec = made["spec"]
    assert (spec["group"], spec["scope"]) == ("test.headrace.dev", "Namespaced")
    assert spec["names"] == {
        "plural": "things",
        "singular": "thing",
        "kind": "Thing",
        "listKind": "ThingList",
        "shortNames": ["th"],
    }
    (version,) = spec["versions"]
    assert (version["name"], version["served"], version["storage"]) == ("v1beta1", True, True)
    assert version["subresources"].keys() == {"status", "scale"}
    assert version["additionalPrinterColumns"] == [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]


def test_the_schema():
    made = schema_for(Thing)
    assert made["description"] == "A thing."
    assert made["required"] == ["spec"]
    assert made["properties"]["metadata"] == {"type": "object"}
    spec = made["properties"]["spec"]["properties"]
    part = spec["parts"]["items"]
    assert part["required"] == ["name"]
    assert part["properties"]["name"] == {
        "description": "What it is called.",
        "type": "string",
        "pattern": "^[a-z]+$",
        "minLength": 1,
    }
    assert part["properties"]["weight"] == {"type": "number"}
    assert spec["size"] == {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9}
    assert spec["color"] == {"type": "string", "enum": ["red", "blue"]}
    assert spec["mode"] == {"type": "string", "enum": ["fast", "slow"]}
    assert spec["port"] == {"x-kubernetes-int-or-string": True}
    assert spec["labels"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert spec["extra"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    assert spec["since"] == {"type": "string", "format": "date-time"}
    assert spec["loose"]["x-kubernetes-preserve-unknown-fields"]
    assert "x-kubernetes-preserve-unknown-fields" not in part
    assert spec["template"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"], "a view of a built-in type"
    compile_schema(made)
