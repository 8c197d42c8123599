"""What a component is told of its own task's Kubernetes settings (dsl.TaskConfig), and which of them its pod gets.

A component with `task_config_passthroughs` takes settings as a value, usually to start something of its own with them;
those that it names are put on its own pod only where it says `apply_to_task`.
Source: backend/src/v2/driver/driver.go (getTaskConfigOptions, TaskConfig, initPodSpecPatch), driver/k8s.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.api import _wire
from headrace.api.core import Container, Pod, PodSpec, ResourceRequirements
from headrace.components.pipelines.policy.podstatus import MAIN
from headrace.components.pipelines.render.platform import apply_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.api.core import EnvVar, Volume, VolumeMount
    from headrace.components.pipelines.types.ir import ComponentSpec

RESOURCES, ENV, VOLUMES = "RESOURCES", "ENV", "KUBERNETES_VOLUMES"
_FIELDS = {
    "pvcMount": VOLUMES,
    "secretAsVolume": VOLUMES,
    "configMapAsVolume": VOLUMES,
    "secretAsEnv": ENV,
    "configMapAsEnv": ENV,
    "fieldPathAsEnv": ENV,
    "nodeSelector": "KUBERNETES_NODE_SELECTOR",
    "tolerations": "KUBERNETES_TOLERATIONS",
    "nodeAffinity": "KUBERNETES_AFFINITY",
    "podAffinity": "KUBERNETES_AFFINITY",
}
"""Settings that can be handed on, by the passthrough that does so; all others are the pod's in any case."""


class Passthrough:
    """Where each kind of setting of a component goes."""

    def __init__(self, component: ComponentSpec) -> None:
        self._apply = {entry.field: entry.apply_to_task for entry in component.task_config_passthroughs}
        self.inputs = [n for n, p in component.input_definitions.parameters.items() if p.kind == "TASK_CONFIG"]

    def on_pod(self, field: str) -> bool:
        """Whether the step's own pod has it."""
        return self._apply.get(field, True)

    def pod_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a Kubernetes configuration that the pod gets."""
        return {name: value for name, value in config.items() if self.on_pod(_FIELDS.get(name, ""))}

    def value(
        self,
        config: Mapping[str, Any],
        env: list[EnvVar],
        resources: ResourceRequirements,
        workspace: tuple[Volume, VolumeMount] | None,
    ) -> dict[str, Any]:
        """The value of an input of type dsl.TaskConfig, in the field names that the SDK reads."""
        mine = {name: value for name, value in config.items() if _FIELDS.get(name) in self._apply}
        main = Container(name=MAIN, env=list(env) if ENV in self._apply else [])
        if RESOURCES in self._apply:
            main.resources = resources
        pod = Pod(spec=PodSpec(containers=[main]))
        apply_config(pod, mine)
        if workspace is not None and VOLUMES in self._apply:
            pod.spec.volumes.append(workspace[0])
            main.volume_mounts.append(workspace[1])
        return {
            "affinity": pod.spec.affinity,
            "tolerations": pod.spec.tolerations or None,
            "nodeSelector": dict(pod.spec.node_selector) or None,
            "env": _wire.to_builtins(main.env) or None,
            "volumes": _wire.to_builtins(pod.spec.volumes) or None,
            "volumeMounts": _wire.to_builtins(main.volume_mounts) or None,
            "resources": _wire.to_builtins(main.resources),
        }
