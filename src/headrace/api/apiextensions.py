"""Custom resource definitions, `apiextensions.k8s.io/v1`."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.meta import Condition, KindInfo, Object, Struct


class CRDNames(Struct):
    """The kind's names."""

    plural: str
    kind: str
    singular: str = ""
    short_names: list[str] = []
    list_kind: str = ""
    categories: list[str] = []


class PrinterColumn(Struct):
    """A column of `kubectl get`."""

    name: str
    type: str
    json_path: str
    description: str = ""
    format: str = ""
    priority: int = 0


class CRDValidation(Struct):
    """The structural schema."""

    open_apiv3_schema: dict[str, Any] = msgspec.field(name="openAPIV3Schema", default_factory=dict)


class CRDVersion(Struct):
    """One version of the kind."""

    name: str
    served: bool
    storage: bool
    schema: CRDValidation = msgspec.field(default_factory=CRDValidation)
    subresources: dict[str, Any] = {}
    additional_printer_columns: list[PrinterColumn] = []


class CRDSpec(Struct):
    """Group, names, scope and versions."""

    group: str
    names: CRDNames
    scope: str
    versions: list[CRDVersion] = []
    preserve_unknown_fields: bool = False


class CRDStatus(Struct):
    """Conditions Established and NamesAccepted."""

    conditions: list[Condition] = []
    accepted_names: CRDNames | None = None
    stored_versions: list[str] = []


class CustomResourceDefinition(Object, kw_only=True):
    """A kind that somebody adds to the API."""

    INFO: ClassVar[KindInfo] = KindInfo(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short_names=("crd", "crds"),
    )
    spec: CRDSpec
    status: CRDStatus = msgspec.field(default_factory=CRDStatus)


KINDS: tuple[type[Object], ...] = (CustomResourceDefinition,)
