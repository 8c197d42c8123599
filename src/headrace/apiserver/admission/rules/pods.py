"""Rules of pods and pod templates (pkg/apis/core/validation), the ones that a manifest is likely to break."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from headrace.api import quantity
from headrace.apiserver.admission.rules import fields as f

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.errors import Cause

Json = dict[str, Any]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_ENV_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_ENV_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_PRINTABLE = re.compile(r"[ -<>-~]+")
_VOLUME_SOURCES = frozenset(
    {
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "glusterfs",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "persistentVolumeClaim",
        "photonPersistentDisk",
        "portworxVolume",
        "projected",
        "quobyte",
        "rbd",
        "scaleIO",
        "secret",
        "storageos",
        "vsphereVolume",
    }
)
_ENV_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef")
_NOT_EPHEMERAL = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources", "restartPolicy")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_UPDATE_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def pod(obj: Json) -> Iterator[Cause]:
    """A pod."""
    if not obj.get("metadata", {}).get("resourceVersion") and (obj.get("spec") or {}).get("ephemeralContainers"):
        yield f.forbidden("spec.ephemeralContainers", "cannot be set on create")
    yield from pod_spec(obj.get("spec") or {}, "spec")


def template(obj: Json, path: str) -> Iterator[Cause]:
    """A pod template."""
    yield from pod_spec(obj.get("spec") or {}, f"{path}.spec")


def pod_spec(spec: Json, path: str) -> Iterator[Cause]:
    """The spec of a pod or of a template."""
    volumes: set[str] = set()
    for i, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume(volume, f"{path}.volumes[{i}]", volumes)
    main = spec.get("containers") or []
    if not main:
        yield f.required(f"{path}.containers")
    names: set[str] = set()
    host = bool(spec.get("hostNetwork"))
    for i, container in enumerate(main):
        yield from _container(container, f"{path}.containers[{i}]", names, volumes, host_network=host)
    for i, container in enumerate(spec.get("initContainers") or ()):
        where = f"{path}.initContainers[{i}]"
        yield from _container(container, where, names, volumes, host_network=host)
        if container.get("restartPolicy") not in (None, "Always"):
            yield f.unsupported(f"{where}.restartPolicy", container["restartPolicy"], ("Always",))
    for i, container in enumerate(spec.get("ephemeralContainers") or ()):
        where = f"{path}.ephemeralContainers[{i}]"
        for key in _NOT_EPHEMERAL:
            if container.get(key):
                yield f.forbidden(f"{where}.{key}", "cannot be set for an Ephemeral Container")
        target = container.get("targetContainerName")
        if target and target not in names:
            yield f.not_found(f"{where}.targetContainerName", target)
        yield from _container(container, where, names, volumes, host_network=host)
    yield from f.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), RESTART_POLICIES)
    yield from f.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        yield f.required(f"{path}.dnsConfig.nameservers", why)
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            yield from f.dns_label(f"{path}.{key}", spec[key])
    if spec.get("serviceAccountName") and not f.SUBDOMAIN.fullmatch(spec["serviceAccountName"]):
        yield f.invalid(f"{path}.serviceAccountName", spec["serviceAccountName"], f.LABEL_1123_RULE)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        yield f.invalid(f"{path}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    yield from f.non_negative(f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))


def _volume(volume: Json, path: str, seen: set[str]) -> Iterator[Cause]:
    name = volume.get("name") or ""
    if not name:
        yield f.required(f"{path}.name")
    else:
        yield from f.dns_label(f"{path}.name", name)
        if name in seen:
            yield f.duplicate(f"{path}.name", name)
    seen.add(name)
    sources = [s for s in volume if s in _VOLUME_SOURCES]
    if not sources:
        yield f.required(path, "must specify a volume type")
    for extra in sources[1:]:
        yield f.forbidden(f"{path}.{extra}", "may not specify more than 1 volume type")
    if "persistentVolumeClaim" in volume and not volume["persistentVolumeClaim"].get("claimName"):
        yield f.required(f"{path}.persistentVolumeClaim.claimName")
    if "secret" in volume and not volume["secret"].get("secretName"):
        yield f.required(f"{path}.secret.secretName")
    if "configMap" in volume and not volume["configMap"].get("name"):
        yield f.required(f"{path}.configMap.name")
    if "hostPath" in volume:
        where = volume["hostPath"].get("path") or ""
        if not where:
            yield f.required(f"{path}.hostPath.path")
        elif ".." in where.split("/"):
            yield f.invalid(f"{path}.hostPath.path", where, "must not contain '..'")


def _container(
    container: Json, path: str, names: set[str], volumes: set[str], *, host_network: bool
) -> Iterator[Cause]:
    name = container.get("name") or ""
    if not name:
        yield f.required(f"{path}.name")
    else:
        yield from f.dns_label(f"{path}.name", name)
        if name in names:
            yield f.duplicate(f"{path}.name", name)
    names.add(name)
    image = container.get("image") or ""
    if not image:
        yield f.required(f"{path}.image")
    elif image != image.strip():
        yield f.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from f.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    yield from f.one_of(
        f"{path}.terminationMessagePolicy", container.get("terminationMessagePolicy"), _MESSAGE_POLICIES
    )
    yield from _ports(container.get("ports") or (), path, host_network=host_network)
    for i, variable in enumerate(container.get("env") or ()):
        yield from _env(variable, f"{path}.env[{i}]")
    yield from _mounts(container.get("volumeMounts") or (), path, volumes)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if key in container:
            yield from _probe(container[key], f"{path}.{key}")
    for key, hook in (container.get("lifecycle") or {}).items():
        if isinstance(hook, dict):
            yield from _handler(hook, f"{path}.lifecycle.{key}")


def _ports(ports: Any, path: str, *, host_network: bool) -> Iterator[Cause]:
    names: set[str] = set()
    for i, port in enumerate(ports):
        where = f"{path}.ports[{i}]"
        if not port.get("containerPort"):
            yield f.required(f"{where}.containerPort")
        else:
            yield from f.port(f"{where}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from f.port(f"{where}.hostPort", port["hostPort"])
            if host_network and port["hostPort"] != port.get("containerPort"):
                yield f.invalid(
                    f"{where}.hostPort", port["hostPort"], "must match `containerPort` when `hostNetwork` is true"
                )
        if port.get("name"):
            yield from f.port_or_name(f"{where}.name", port["name"])
            if port["name"] in names:
                yield f.duplicate(f"{where}.name", port["name"])
            names.add(port["name"])
        yield from f.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)


def _env(variable: Json, path: str) -> Iterator[Cause]:
    name = variable.get("name") or ""
    if not name:
        yield f.required(f"{path}.name")
    elif not _ENV_NAME.fullmatch(name) and not _PRINTABLE.fullmatch(name):
        yield f.invalid(f"{path}.name", name, _ENV_RULE)
    source = variable.get("valueFrom")
    if source is None:
        return
    given = [s for s in _ENV_SOURCES if s in source]
    if not given:
        yield f.invalid(f"{path}.valueFrom", "", f"must specify one of: {', '.join(f'`{s}`' for s in _ENV_SOURCES)}")
    elif variable.get("value"):
        yield f.invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield f.invalid(f"{path}.valueFrom", "", "may not have more than one field specified at a time")
    for key in ("configMapKeyRef", "secretKeyRef"):
        if key in source:
            for part in ("name", "key"):
                if not source[key].get(part):
                    yield f.required(f"{path}.valueFrom.{key}.{part}")
    if "fieldRef" in source and not source["fieldRef"].get("fieldPath"):
        yield f.required(f"{path}.valueFrom.fieldRef.fieldPath")


def _mounts(mounts: Any, path: str, volumes: set[str]) -> Iterator[Cause]:
    paths: set[str] = set()
    for i, mount in enumerate(mounts):
        where = f"{path}.volumeMounts[{i}]"
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield f.required(f"{where}.name")
        elif name not in volumes:
            yield f.not_found(f"{where}.name", name)
        if not target:
            yield f.required(f"{where}.mountPath")
        elif target in paths:
            yield f.invalid(f"{where}.mountPath", target, "must be unique")
        paths.add(target)
        sub = mount.get("subPath") or ""
        if sub.startswith("/"):
            yield f.invalid(f"{where}.subPath", sub, "must be a relative path")
        elif ".." in sub.split("/"):
            yield f.invalid(f"{where}.subPath", sub, "must not contain '..'")


def _resources(resources: Json, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    broken = [
        *f.resource_list(f"{path}.limits", limits),
        *f.resource_list(f"{path}.requests", requests),
    ]
    yield from broken
    if broken:
        return
    for name, value in requests.items():
        if name in limits and quantity.parse(value) > quantity.parse(limits[name]):
            yield f.invalid(f"{path}.requests", value, f"must be less than or equal to {name} limit of {limits[name]}")


def _probe(probe: Json, path: str) -> Iterator[Cause]:
    yield from _handler(probe, path)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from f.non_negative(f"{path}.{key}", probe.get(key))


def _handler(handler: Json, path: str) -> Iterator[Cause]:
    given = [h for h in _HANDLERS if h in handler]
    if not given:
        yield f.required(path, "must specify a handler type")
    for extra in given[1:]:
        yield f.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for key in ("httpGet", "tcpSocket"):
        if key in handler:
            yield from f.port_or_name(f"{path}.{key}.port", handler[key].get("port"))
    if "exec" in handler and not handler["exec"].get("command"):
        yield f.required(f"{path}.exec.command")


def pod_update(new: Json, old: Json) -> Iterator[Cause]:
    """A pod's spec is fixed, but for a few fields; the node is set once."""
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before == after:
        return
    if _fixed(before, before) != _fixed(after, before):
        yield f.forbidden("spec", _UPDATE_RULE)
    elif not _tolerations_kept(before, after):
        yield f.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")


def ephemeral_update(new: Json, old: Json) -> Iterator[Cause]:
    """Ephemeral containers may be added; those that are there stay as they are."""
    before, after = ((o.get("spec") or {}).get("ephemeralContainers") or [] for o in (old, new))
    known = {c.get("name"): c for c in after}
    for container in before:
        name = container["name"]
        if name not in known:
            yield f.forbidden("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed')
        elif known[name] != container:
            yield f.forbidden("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be changed')


def _fixed(spec: Json, before: Json) -> Json:
    out = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations")}
    for key in ("containers", "initContainers"):
        if key in out:
            out[key] = [{k: v for k, v in c.items() if k != "image"} for c in out[key]]
    if not before.get("nodeName"):
        out.pop("nodeName", None)
    return out


def _tolerations_kept(before: Json, after: Json) -> bool:
    present = [{k: v for k, v in t.items() if k != "tolerationSeconds"} for t in after.get("tolerations") or ()]
    return all(
        {k: v for k, v in t.items() if k != "tolerationSeconds"} in present for t in before.get("tolerations") or ()
    )
