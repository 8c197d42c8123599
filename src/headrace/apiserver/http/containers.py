"""Which container of a pod is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.api.errors import BadRequest

if TYPE_CHECKING:
    from headrace.api.core import Pod


def choose_container(pod: Pod, asked: str) -> str:
    """The container that is meant. Raises BadRequest in the words of Kubernetes."""
    mains = [c.name for c in pod.spec.containers]
    inits = [c.name for c in pod.spec.init_containers]
    name = pod.metadata.name
    if asked:
        if asked not in {*mains, *inits, *(c.name for c in pod.spec.ephemeral_containers)}:
            raise BadRequest(f"container {asked} is not valid for pod {name}")
        return asked
    if len(mains) == 1:
        return mains[0]
    if not mains:
        raise BadRequest(f"a container name must be specified for pod {name}")
    also = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise BadRequest(f"a container name must be specified for pod {name}, choose one of: [{' '.join(mains)}]{also}")
