"""Put a task's resolved Kubernetes configuration (see policy.platform) on its pod.

What the engine itself needs of the pod (its labels, annotations and mounts) is not replaced.
Source: backend/src/v2/driver/k8s.go (extendPodSpecPatch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api.core import (
    ConfigMapVolumeSource,
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    EnvVarSource,
    EphemeralClaimTemplate,
    EphemeralVolumeSource,
    KeySelector,
    ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource,
    ResourceRequirements,
    SecretVolumeSource,
    SecurityContext,
    Volume,
    VolumeMount,
)
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.policy.values import ResolveError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.core import Pod

Json = Any


def apply_config(pod: Pod, config: Mapping[str, Json]) -> None:
    """Change the pod as the configuration says; its first container is the step."""
    main, spec, metadata = pod.spec.containers[0], pod.spec, pod.metadata
    for entry in config.get("pvcMount", []):
        claim = PersistentVolumeClaimVolumeSource(claim_name=entry["pvcName"])
        _mount(pod, Volume(name=entry["pvcName"], persistent_volume_claim=claim), entry["mountPath"], entry["subPath"])
    for entry in config.get("secretAsVolume", []):
        secret = SecretVolumeSource(secret_name=entry["secretName"], optional=bool(entry.get("optional")))
        _mount(pod, Volume(name=entry["secretName"], secret=secret), entry.get("mountPath", ""))
    for entry in config.get("configMapAsVolume", []):
        source = ConfigMapVolumeSource(name=entry["configMapName"], optional=bool(entry.get("optional")))
        _mount(pod, Volume(name=entry["configMapName"], config_map=source), entry.get("mountPath", ""))
    for entry in config.get("emptyDirMounts", []):
        empty = EmptyDirVolumeSource(medium=entry.get("medium", ""), size_limit=entry.get("sizeLimit"))
        _mount(pod, Volume(name=entry["volumeName"], empty_dir=empty), entry.get("mountPath", ""))
    if "enabledSharedMemory" in config:
        memory = config["enabledSharedMemory"]
        empty = EmptyDirVolumeSource(medium="Memory", size_limit=memory.get("size") or None)
        _mount(pod, Volume(name=memory.get("volumeName") or "shm", empty_dir=empty), "/dev/shm")  # noqa: S108
    for entry in config.get("genericEphemeralVolume", []):
        _mount(pod, _ephemeral(entry), entry.get("mountPath", ""))
    _variables(pod, config)
    if config.get("imagePullPolicy"):
        main.image_pull_policy = config["imagePullPolicy"]
    spec.image_pull_secrets += [{"name": entry["secretName"]} for entry in config.get("imagePullSecret", [])]
    spec.node_selector |= config.get("nodeSelector", {})
    if "nodeAffinity" in config:
        spec.affinity = {**(spec.affinity or {}), "nodeAffinity": config["nodeAffinity"]}
    if "podAffinity" in config:
        spec.affinity = {**(spec.affinity or {}), **config["podAffinity"]}
    spec.tolerations += [_toleration(entry) for entry in config.get("tolerations", [])]
    deadline = int(config.get("activeDeadlineSeconds") or 0)
    if deadline > 0:
        spec.active_deadline_seconds = deadline
    given = config.get("podMetadata", {})
    metadata.labels = {**given.get("labels", {}), **metadata.labels}
    metadata.annotations = {**given.get("annotations", {}), **metadata.annotations}
    if "securityContext" in config:
        context = config["securityContext"]
        main.security_context = SecurityContext(
            run_as_user=_int(context.get("runAsUser")),
            run_as_group=_int(context.get("runAsGroup")),
            run_as_non_root=context.get("runAsNonRoot"),
        )
    for entry in config.get("initContainers", []):
        spec.init_containers.append(_init_container(pod, entry))


def _init_container(pod: Pod, entry: Mapping[str, Json]) -> Container:
    volumes = {volume.name for volume in pod.spec.volumes}
    mounts = [VolumeMount(name=m["volumeName"], mount_path=m["mountPath"]) for m in entry.get("volumeMounts", [])]
    for mount in mounts:
        if mount.name not in volumes:
            raise ResolveError(
                f"The init container {entry['name']!r} mounts the volume {mount.name!r}, which the task does not have; "
                "give it one, for example with kubernetes.empty_dir_mount."
            )
    resources = entry.get("resources", {})
    return Container(
        name=entry["name"],
        image=entry["image"],
        command=entry.get("command", []),
        args=entry.get("args", []),
        env=[EnvVar(name=v["name"], value=v.get("value", "")) for v in entry.get("env", [])],
        volume_mounts=mounts,
        restart_policy=entry.get("restartPolicy") or None,
        resources=ResourceRequirements(requests=resources.get("requests", {}), limits=resources.get("limits", {})),
    )


def _variables(pod: Pod, config: Mapping[str, Json]) -> None:
    variables = pod.spec.containers[0].env
    for entry in config.get("secretAsEnv", []):
        for pair in entry.get("keyToEnv", []):
            key = KeySelector(name=entry["secretName"], key=pair["secretKey"], optional=entry.get("optional"))
            variables.append(EnvVar(name=pair["envVar"], value_from=EnvVarSource(secret_key_ref=key)))
    for entry in config.get("configMapAsEnv", []):
        for pair in entry.get("keyToEnv", []):
            key = KeySelector(name=entry["configMapName"], key=pair["configMapKey"], optional=entry.get("optional"))
            variables.append(EnvVar(name=pair["envVar"], value_from=EnvVarSource(config_map_key_ref=key)))
    for entry in config.get("fieldPathAsEnv", []):
        field = ObjectFieldSelector(field_path=entry["fieldPath"])
        variables.append(EnvVar(name=entry["name"], value_from=EnvVarSource(field_ref=field)))


def _mount(pod: Pod, volume: Volume, path: str, sub_path: str = "") -> None:
    if all(known.name != volume.name for known in pod.spec.volumes):
        pod.spec.volumes.append(volume)
    pod.spec.containers[0].volume_mounts.append(VolumeMount(name=volume.name, mount_path=path, sub_path=sub_path))


def _ephemeral(entry: Mapping[str, Json]) -> Volume:
    claim: dict[str, Json] = {
        "accessModes": entry.get("accessModes", []),
        "resources": {"requests": {"storage": entry.get("size", "")}},
    }
    if not entry.get("defaultStorageClass"):
        claim["storageClassName"] = entry.get("storageClassName", "")
    given = entry.get("metadata", {})
    template = EphemeralClaimTemplate(
        spec=claim, metadata=ObjectMeta(labels=given.get("labels", {}), annotations=given.get("annotations", {}))
    )
    return Volume(name=entry["volumeName"], ephemeral=EphemeralVolumeSource(volume_claim_template=template))


def _toleration(entry: Mapping[str, Json]) -> dict[str, Json]:
    return {
        key: _int(value) if key == "tolerationSeconds" else value
        for key, value in entry.items()
        if value not in (None, "")
    }


def _int(value: Json) -> int | None:
    """Protobuf's JSON writes 64-bit integers as text."""
    return None if value is None else int(value)
