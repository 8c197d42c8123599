"""Who a container's process is and what it may do, from the security contexts of pod and container. Pure.

Nothing is given by default: a container holds the capabilities that it adds and no others, and no program in it ever
gains privileges. What cannot be given is refused by name, see `unsupported`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headrace.node.agent.variables import ConfigError
from headrace.node.runtime.base import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.api.core import Container, Pod

_USUAL = tuple(name for name in CAPABILITIES if name != "SYS_PTRACE")
NON_ROOT = 1000
"""The user of containers that must not be root and do not say who they are."""


def user(pod: Pod, container: Container, image: str = "") -> tuple[int | None, int | None]:
    """User and group of the container's process; None is whoever runs the platform. `image` is the image's USER, of
    numbers. Raises ConfigError.
    """
    own, shared = container.security_context, pod.spec.security_context
    uid = own.run_as_user if own is not None else None
    gid = own.run_as_group if own is not None else None
    non_root = own.run_as_non_root if own is not None else None
    if shared is not None:
        uid = shared.run_as_user if uid is None else uid
        gid = shared.run_as_group if gid is None else gid
        non_root = shared.run_as_non_root if non_root is None else non_root
    if uid is None and image:
        of_image, _, group = image.partition(":")
        uid, gid = int(of_image), int(group or of_image) if gid is None else gid
        if non_root and uid == 0:
            raise ConfigError(
                "container has runAsNonRoot and image will run as root "
                f'(pod: "{pod.metadata.name}", container: {container.name})'
            )
    if non_root and uid == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy (container: {container.name})")
    if non_root and uid is None and os.geteuid() == 0:
        uid, gid = NON_ROOT, NON_ROOT if gid is None else gid
    return uid, gid


def user_of_real(pod: Pod, container: Container, image: str = "") -> tuple[int | None, int | None]:
    """The same for an image as it is, whose USER may be a name and is root where it says nothing; None is whoever it
    says. Raises ConfigError.
    """
    own, shared = container.security_context, pod.spec.security_context
    contexts = [context for context in (own, shared) if context is not None]
    given = next((c.run_as_user for c in contexts if c.run_as_user is not None), None)
    non_root = next((c.run_as_non_root for c in contexts if c.run_as_non_root is not None), False)
    name = image.partition(":")[0]
    if given is None and non_root and name and not name.isdigit():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root "
            f'(pod: "{pod.metadata.name}", container: {container.name})'
        )
    numbers = image if all(part.isdigit() for part in image.split(":")) else ""
    uid, gid = user(pod, container, numbers or ("0" if non_root or not image else ""))
    if uid is None and gid is not None:
        raise ConfigError(f'the image\'s user "{image}" is a name: set runAsUser beside runAsGroup')
    of_contexts = any(c.run_as_user is not None or c.run_as_group is not None for c in contexts)
    return (uid, gid) if of_contexts else (None, None)


def groups(pod: Pod) -> tuple[int, ...]:
    """The other groups of the pod's processes: supplementalGroups, and fsGroup, which owns the pod's volumes."""
    shared = pod.spec.security_context
    if shared is None:
        return ()
    found = [*shared.supplemental_groups, *([shared.fs_group] if shared.fs_group is not None else [])]
    return tuple(dict.fromkeys(found))


def capabilities(container: Container, *, of_image: bool = False) -> tuple[str, ...]:
    """What the container adds; all that it does not add is dropped anyway. An image as it is was made for what engines
    give by default, of which it gets what any container here may have, unless the container drops it.
    """
    own = container.security_context
    found = own.capabilities if own is not None else None
    added = [_plain(name) for name in (found.add if found is not None else [])]
    dropped = {_plain(name) for name in (found.drop if found is not None else [])}
    usual = [name for name in _USUAL if name not in dropped] if of_image and "ALL" not in dropped else []
    return tuple(dict.fromkeys((*usual, *added)))


def filtered(pod: Pod, container: Container) -> bool:
    """Whether the container asks for the default seccomp profile."""
    own, shared = container.security_context, pod.spec.security_context
    profile = own.seccomp_profile if own is not None else None
    if profile is None and shared is not None:
        profile = shared.seccomp_profile
    return profile is not None and profile.type == "RuntimeDefault"


def unsupported(pod: Pod) -> Iterator[str]:
    """What the security contexts ask for that no runtime here gives."""
    shared = pod.spec.security_context
    profiles = [shared.seccomp_profile, shared.app_armor_profile] if shared is not None else []
    if shared is not None and shared.sysctls:
        yield "sysctls"
    containers = (*pod.spec.containers, *pod.spec.init_containers, *pod.spec.ephemeral_containers)
    refused: set[str] = set()
    privileged = unmasked = False
    for container in containers:
        own = container.security_context
        if own is None:
            continue
        privileged = privileged or bool(own.privileged)
        unmasked = unmasked or own.proc_mount == "Unmasked"
        profiles += [own.seccomp_profile, own.app_armor_profile]
        refused |= {name for name in capabilities(container) if name not in CAPABILITIES}
    if privileged:
        yield "privileged containers"
    if unmasked:
        yield "procMount Unmasked"
    if any(profile is not None and profile.type == "Localhost" for profile in profiles):
        yield "Localhost profiles"
    if refused:
        yield f"the capabilities {', '.join(sorted(refused))} (only {', '.join(CAPABILITIES)})"


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")
