"""The environment of a container: the image's variables, services, ConfigMaps, Secrets, the pod's own.

Order, the later winning: the image, the platform (HOME, HOSTNAME, proxy), services, envFrom, env. Pure but for
the lookups that it is given.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.node import downward
from headrace.node.expansion import expand

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.api.core import Container, EnvFromRef, EnvVarSource, KeySelector, Pod, Service
    from headrace.api.meta import Quantity
    from headrace.node.lookup import Lookup

PROXY_PORT = 3128
"""Where the node's HTTP proxy listens for pods."""
_PROXY_NAMES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


class ConfigError(Exception):
    """A reference of the container cannot be resolved now; the message is the kubelet's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod runs, for variables that speak of it."""

    pod_ip: str
    host_ip: str
    node_name: str
    allocatable: Mapping[str, Quantity]


def build(
    pod: Pod, container: Container, *, base: Mapping[str, str], links: Mapping[str, str], place: Place, lookup: Lookup
) -> dict[str, str]:
    """All variables of a container. `base` holds the image's and the platform's, `links` those of services.

    Raises ConfigError.
    """
    namespace = pod.metadata.namespace
    own: dict[str, str] = {}
    sources = _Sources(pod, container, place, lookup)
    for whole in container.env_from:
        for key, value in _all_of(whole.config_map_ref, whole.secret_ref, namespace, lookup).items():
            own[whole.prefix + key] = value
    for variable in container.env:
        source = variable.value_from
        found = expand(variable.value, own, links) if source is None else sources.value(source)
        if found is not None:
            own[variable.name] = found
    return {**base, **links, **own}


def service_links(namespace: str, services: Iterable[Service], *, all_of_namespace: bool) -> dict[str, str]:
    """Variables of services: `kubernetes` for everybody, and those of the pod's namespace (enableServiceLinks)."""
    result: dict[str, str] = {}
    for service in services:
        meta, spec = service.metadata, service.spec
        master = meta.namespace == "default" and meta.name == "kubernetes"
        if not (master or (all_of_namespace and meta.namespace == namespace)):
            continue
        if not spec.cluster_ip or spec.cluster_ip == "None" or not spec.ports:
            continue
        name = meta.name.upper().replace("-", "_")
        result[f"{name}_SERVICE_HOST"] = spec.cluster_ip
        result[f"{name}_SERVICE_PORT"] = str(spec.ports[0].port)
        for index, port in enumerate(spec.ports):
            if port.name:
                result[f"{name}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
            protocol = port.protocol.lower()
            url = f"{protocol}://{spec.cluster_ip}:{port.port}"
            if index == 0:
                result[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port.port}_{protocol.upper()}"
            result[prefix] = url
            result[f"{prefix}_PROTO"] = protocol
            result[f"{prefix}_PORT"] = str(port.port)
            result[f"{prefix}_ADDR"] = spec.cluster_ip
    return result


def outbound(node_ip: str, cidrs: Iterable[str], namespaces: Iterable[str], services: Iterable[str]) -> dict[str, str]:
    """Proxy variables: out of the pod network through the node, inside it directly."""
    proxy = f"http://{node_ip}:{PROXY_PORT}"
    direct = ["localhost", "127.0.0.1", "::1", node_ip, *cidrs, ".svc", ".cluster.local"]
    direct += [f".{n}" for n in sorted(namespaces)] + sorted(services)
    result = dict.fromkeys(_PROXY_NAMES, proxy)
    result["no_proxy"] = result["NO_PROXY"] = ",".join(direct)
    return result


def sets_proxy(container: Container) -> bool:
    """Whether the container brings its own proxy settings; then none of ours are added."""
    return any(v.name in _PROXY_NAMES or v.name.lower() in {"all_proxy", "no_proxy"} for v in container.env)


@dataclass(frozen=True, slots=True)
class _Sources:
    pod: Pod
    container: Container
    place: Place
    lookup: Lookup

    def value(self, source: EnvVarSource) -> str | None:
        pod, place, lookup = self.pod, self.place, self.lookup
        try:
            if source.field_ref is not None:
                return downward.field(
                    pod,
                    source.field_ref.field_path,
                    pod_ip=place.pod_ip,
                    host_ip=place.host_ip,
                    node_name=place.node_name,
                )
            if source.resource_field_ref is not None:
                selector = source.resource_field_ref
                container = _named(pod, selector.container_name, self.container)
                return downward.resource(selector, container, place.allocatable)
        except downward.UnsupportedField as error:
            raise ConfigError(str(error)) from error
        if source.config_map_key_ref is not None:
            return _config_map_key(source.config_map_key_ref, pod.metadata.namespace, lookup)
        if source.secret_key_ref is not None:
            return _secret_key(source.secret_key_ref, pod.metadata.namespace, lookup)
        return None


def _named(pod: Pod, name: str, default: Container) -> Container:
    every = [*pod.spec.containers, *pod.spec.init_containers]
    return next((c for c in every if c.name == name), default)


def _config_map_key(ref: KeySelector, namespace: str, lookup: Lookup) -> str | None:
    found = lookup.config_map(namespace, ref.name)
    return _of_key("ConfigMap", None if found is None else found.data, ref, namespace)


def _secret_key(ref: KeySelector, namespace: str, lookup: Lookup) -> str | None:
    found = lookup.secret(namespace, ref.name)
    value = _of_key("Secret", None if found is None else found.data, ref, namespace)
    return None if value is None else _text(value, ref.key, namespace, ref.name)


def _of_key(kind: str, data: Mapping[str, str] | None, ref: KeySelector, namespace: str) -> str | None:
    if data is not None and ref.key in data:
        return data[ref.key]
    if ref.optional:
        return None
    if data is None:
        raise ConfigError(f'{kind.lower()} "{ref.name}" not found')
    raise ConfigError(f"couldn't find key {ref.key} in {kind} {namespace}/{ref.name}")


def _all_of(
    config_map: EnvFromRef | None, secret: EnvFromRef | None, namespace: str, lookup: Lookup
) -> Mapping[str, str]:
    if config_map is not None:
        found = lookup.config_map(namespace, config_map.name)
        if found is None and not config_map.optional:
            raise ConfigError(f'configmap "{config_map.name}" not found')
        return found.data if found is not None else {}
    if secret is not None:
        held = lookup.secret(namespace, secret.name)
        if held is None and not secret.optional:
            raise ConfigError(f'secret "{secret.name}" not found')
        return {k: _text(v, k, namespace, secret.name) for k, v in held.data.items()} if held is not None else {}
    return {}


def _text(encoded: str, key: str, namespace: str, name: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ConfigError(
            f"key {key} in Secret {namespace}/{name} is not text: mount it as a file instead of a variable"
        ) from error
