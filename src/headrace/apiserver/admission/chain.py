"""The order of admission: decode (unknown fields, nulls, defaults), add what creation adds, then check everything.

Decoding errors are BadRequest in the decoder's words; everything else that is wrong with an object comes back
together, as the causes of one Invalid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire, networking
from headrace.api.apiextensions import CustomResourceDefinition
from headrace.api.apiregistration import APIService
from headrace.api.core import Namespace, Pod
from headrace.api.errors import BadRequest, Cause, Forbidden, MethodNotAllowed, NotFound
from headrace.api.rbac import GROUP as RBAC_GROUP
from headrace.apiserver.admission import (
    creation,
    defaults,
    definitions,
    limit_ranges,
    metadata,
    pod_security,
    rules,
)
from headrace.apiserver.admission.advice import advice
from headrace.apiserver.admission.quotas import Quotas
from headrace.apiserver.authz import escalation
from headrace.apiserver.schema.catalog import META
from headrace.apiserver.schema.document import Report, decode, missing
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.api.identity import User
    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.lookup import Lookup
    from headrace.apiserver.authz.rbac import Authorizer
    from headrace.apiserver.registry.kinds import Served
    from headrace.apiserver.schema.catalog import SchemaCatalog
    from headrace.client.base import Warnings
    from headrace.machinery.clock import Clock
    from headrace.machinery.component import Mutator, Validator

Json = dict[str, Any]

KEPT_NAMESPACES = frozenset({"default", "kube-system", "kube-public", SYSTEM_NAMESPACE})
"""As upstream, and the one that the platform's own services and accounts live in: without it nothing works."""


class Admission:
    """Called by the registry for every write."""

    def __init__(
        self, schemas: SchemaCatalog, lookup: Lookup, authorizer: Authorizer, clock: Clock, *, service_cidr: str
    ) -> None:
        self._schemas, self._lookup, self._authorizer, self._clock = schemas, lookup, authorizer, clock
        self._addresses = creation.Addresses(service_cidr, lookup)
        self._quotas = Quotas(lookup)
        self.mutators: list[Mutator[Any]] = []
        """Of core kinds, by the platform's components."""
        self.validators: dict[tuple[str, str], Validator] = {}
        """Of the components' own kinds, by group and kind."""

    def decode(self, served: Served, obj: Json, field_validation: str, warnings: Warnings | None) -> Json:
        """The object as its kind's types would hold it, with defaults. Raises BadRequest."""
        info = served.info
        whole, obj = obj, metadata.without_managers(obj)
        if served.custom:
            return metadata.with_managers_of(self._decode_custom(served, obj, field_validation, warnings), whole)
        node = self._schemas.node(info)
        if node is None:
            return whole
        if not self._schemas.flawless(info, obj):
            obj, report = decode(obj, node)
            _complain(info, report, field_validation, warnings)
        if warnings is not None:
            warnings += [sentence for sentence in advice(info, obj) if sentence not in warnings]
        if served.conversion is None and defaults.known(info):
            obj = _wire.clone(obj)  # it is filled in place, and parts of it are the sender's
            defaults.fill(info, obj)
        return metadata.with_managers_of(obj, whole)

    def _decode_custom(self, served: Served, obj: Json, field_validation: str, warnings: Warnings | None) -> Json:
        info = served.info
        schema = self._schemas.custom(info)
        report = Report()
        if schema is not None:
            obj, report = schema.prune(obj)
        meta, meta_report = decode(obj.get("metadata") or {}, self._schemas.named(f"{META}ObjectMeta"))
        report.unknown += [f"metadata.{p}" for p in meta_report.unknown]
        report.wrong += [(f"metadata.{p}", why) for p, why in meta_report.wrong]
        _complain(info, report, field_validation, warnings)
        obj = {**obj, "metadata": meta}
        return schema.default(obj) if schema is not None else _wire.clone(obj)

    def create(self, user: User, served: Served, obj: Json) -> Json:
        """A new object, named, ready to be stored. Raises Invalid, Forbidden, NotFound."""
        info, core = served.info, not served.info.group
        namespace = self._check_namespace(info, obj)
        if core and self.mutators and self._mutate(info, obj):
            obj = self.decode(served, obj, "Ignore", None)  # what was put in has defaults, too
        match info.kind:
            case "Pod" if core:
                limit_ranges.admit(info, obj, self._lookup)
                creation.pod(obj, info, self._lookup)
            case "Namespace" if core:
                obj["spec"] = {**(obj.get("spec") or {}), "finalizers": ["kubernetes"]}
                obj["status"] = {"phase": "Active"}
                defaults.fill(info, obj)
            case "PersistentVolumeClaim" if core:
                creation.claim(obj, self._lookup)
                limit_ranges.admit(info, obj, self._lookup)
            case "Ingress" if info.group == networking.GROUP:
                obj["status"] = {}
                creation.ingress(obj, self._lookup)
            case "PersistentVolume" if core:
                obj["status"] = {"phase": "Pending"}
            case "Service" if core:
                obj["status"] = {"loadBalancer": {}}
            case "Node" if core:
                pass
            case "Job" if info.group == "batch":
                obj["status"] = {}
                creation.job(obj, obj["metadata"]["uid"])
            case "APIService" if info == APIService.INFO:
                creation.api_service(obj, self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
            case "CustomResourceDefinition":
                obj.pop("status", None)
                meta = obj["metadata"]
                meta["finalizers"] = list(dict.fromkeys([*(meta.get("finalizers") or ()), definitions.CLEANUP]))
            case _:
                if served.has_status:
                    obj.pop("status", None)
                    if not served.custom:
                        obj["status"] = creation.first_status(info)
        self._check(served, obj, [])
        validator = self.validators.get((info.group, info.kind))
        if validator is not None:
            validator.created(obj)
        if info.kind == "Pod" and core and namespace is not None:
            pod_security.enforce(namespace, obj)
        self._check_grants(user, info, obj)
        if info.kind == "Service" and core:
            self._addresses.assign(obj, info)
        if info == CustomResourceDefinition.INFO:
            obj["status"] = definitions.status(obj, self._taken(obj), self._clock.now())
        self._quotas.admit(info, obj)
        return obj

    def _mutate(self, info: KindInfo, obj: Json) -> bool:
        namespace, asked = obj["metadata"].get("namespace", ""), False
        for mutator in self.mutators:
            if mutator.resource == info.plural:
                found = self._lookup.within(mutator.reads.INFO, namespace)
                if found:
                    mutator.mutate(obj, [_wire.convert(mutator.reads, each) for each in found])
                    asked = True
        return asked

    def update(self, user: User, served: Served, new: Json, old: Json, *, subresource: str) -> Json:
        """A changed object, ready to be stored. Raises Invalid, Forbidden."""
        info = served.info
        changes: list[Cause] = []
        if not subresource:
            if info.kind == "Service" and not info.group:
                self._addresses.assign(new, info, old)
            changes += rules.check_update(info, new, old)
            if info == CustomResourceDefinition.INFO:
                changes += definitions.causes_of_update(new, old)
        elif subresource == "ephemeralcontainers":
            changes += rules.pods.ephemeral_update(new, old)
        if new == old:
            return new
        self._check(served, new, changes, subresource=subresource, old=old)
        validator = self.validators.get((info.group, info.kind)) if not subresource else None
        if validator is not None and new.get("spec") != old.get("spec"):
            validator.changed(new, old)
        if info == Pod.INFO and subresource in ("", "ephemeralcontainers") and pod_security.is_significant(new, old):
            pod_security.enforce(self._lookup.get(Namespace.INFO, "", new["metadata"]["namespace"]) or {}, new)
        if not subresource and _grants(new) != _grants(old):
            self._check_grants(user, info, new)
        if not subresource and info == CustomResourceDefinition.INFO:
            new["status"] = definitions.status(new, self._taken(new), self._clock.now())
        if not subresource:
            self._quotas.admit(info, new, old)
        return new

    def advise(self, info: KindInfo, new: Json, old: Json | None, warnings: Warnings) -> None:
        """Warn of what is admitted, but against what a namespace recommends."""
        if pod_security.concerns(info):
            warnings += [w for w in pod_security.advice(info, new, old, self._lookup) if w not in warnings]

    def delete(self, served: Served, name: str) -> None:
        """Raises Forbidden when the object must stay."""
        if served.info == Namespace.INFO and name in KEPT_NAMESPACES:
            raise Forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted', kind="namespaces", name=name
            )

    def written(self, info: KindInfo, obj: Json) -> None:
        """The write has ended, well or not."""
        self._quotas.release(obj)
        if info.kind == "Service" and not info.group:
            self._addresses.release(obj)

    def _check(
        self, served: Served, obj: Json, found: list[Cause], *, subresource: str = "", old: Json | None = None
    ) -> None:
        info = served.info
        obj = metadata.without_managers(obj)
        if served.custom:
            schema = self._schemas.custom(info)
            found = found + (schema.causes(obj, old) if schema is not None else [])
        elif subresource not in {"status", "binding"}:
            node = self._schemas.node(info)
            if node is not None and not self._schemas.flawless(info, obj):
                found = found + [Cause(p, "Required value", "FieldValueRequired") for p in missing(obj, node)]
            found = found + rules.check(info, obj)
            if info == CustomResourceDefinition.INFO:
                found = found + list(definitions.causes(obj))
        if found or subresource != "status" or served.custom:  # else the metadata is what it was
            metadata.check(obj, info, list(dict.fromkeys(found)))

    def _check_namespace(self, info: KindInfo, obj: Json) -> Json | None:
        """The namespace of a new object."""
        if not info.namespaced:
            return None
        name = obj["metadata"]["namespace"]
        found = self._lookup.get(Namespace.INFO, "", name)
        if found is None:
            raise NotFound.of(Namespace.INFO, name)
        if (found.get("status") or {}).get("phase") == "Terminating":
            raise Forbidden(
                f'{info.resource} "{obj["metadata"].get("name", "")}" is forbidden: unable to create new content in '
                f"namespace {name} because it is being terminated",
                causes=[Cause("metadata.namespace", f"namespace {name} is being terminated", "NamespaceTerminating")],
                kind=info.plural,
                group=info.group,
                name=obj["metadata"].get("name", ""),
            )
        return found

    def _check_grants(self, user: User, info: KindInfo, obj: Json) -> None:
        if info.group == RBAC_GROUP:
            escalation.check(user, info, obj, self._authorizer)

    def _taken(self, obj: Json) -> str:
        """The definition that has this one's plural or kind already."""
        spec = obj["spec"]
        for other in self._lookup.all(CustomResourceDefinition.INFO):
            theirs = other["spec"]
            if other["metadata"]["name"] == obj["metadata"]["name"] or theirs["group"] != spec["group"]:
                continue
            if theirs["names"]["kind"] == spec["names"]["kind"]:
                return str(other["metadata"]["name"])
        return ""


def check_serving(served: Served) -> None:
    """A kind whose definition is being deleted takes nothing new. Raises MethodNotAllowed."""
    if served.terminating:
        raise MethodNotAllowed(
            "create not allowed while custom resource definition is terminating",
            kind=served.info.plural,
            group=served.info.group,
        )


def _grants(obj: Json) -> tuple[Any, ...]:
    return obj.get("rules"), obj.get("subjects"), obj.get("roleRef"), obj.get("aggregationRule")


def _complain(info: KindInfo, report: Report, field_validation: str, warnings: Warnings | None) -> None:
    prefix = f'{info.kind} in version "{info.version}" cannot be handled as a {info.kind}'
    if report.wrong:
        causes = [Cause(path, why, "FieldValueTypeInvalid") for path, why in report.wrong]
        raise BadRequest(f"{prefix}: {report.wrong[0][1]}", causes=causes)
    if not report.unknown:
        return
    sentences = [f'unknown field "{path}"' for path in report.unknown]
    if field_validation == "Strict":
        causes = [Cause(path, f'unknown field "{path}"', "FieldValueInvalid") for path in report.unknown]
        raise BadRequest(f"{prefix}: strict decoding error: {', '.join(sentences)}", causes=causes)
    if field_validation == "Warn" and warnings is not None:
        warnings += [s for s in sentences if s not in warnings]
