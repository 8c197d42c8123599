"""The Pod Security Standards, baseline and restricted, as pod-security-admission of 1.32 checks and words them.

Pure: from a pod's metadata and spec to what is forbidden. The baseline checks that a restricted one makes needless are
left out at that level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Json = dict[str, Any]
Finding = tuple[str, str]
"""What is forbidden, and where in detail."""

_DEFAULT_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def findings(level: str, meta: Json, spec: Json) -> list[Finding]:
    """What a pod does that a level forbids."""
    if level == "privileged":
        return []
    checks = [c for c in _BASELINE if level == "baseline" or c not in _REPLACED]
    if level == "restricted":
        checks += _RESTRICTED
    return [found for check in checks if (found := check(meta, spec)) is not None]


def _containers(spec: Json) -> list[Json]:
    return [c for key in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(key) or ()]


def _context(owner: Json) -> Json:
    return owner.get("securityContext") or {}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{n}"' for n in names)


def _plural(one: str, count: int, many: str = "") -> str:
    return one if count == 1 else many or f"{one}s"


def _named(names: list[str]) -> str:
    return f"{_plural('container', len(names))} {_quoted(names)}"


def _setters(pod: bool, containers: list[str]) -> str:
    found = ["pod"] if pod else []
    if containers:
        found.append(_named(containers))
    return " and ".join(found)


def _windows(spec: Json) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _app_armor(meta: Json, spec: Json) -> Finding | None:
    def bad(owner: Json) -> bool:
        return (_context(owner).get("appArmorProfile") or {}).get("type") == "Unconfined"

    found = []
    setters = _setters(bad(spec), [c["name"] for c in _containers(spec) if bad(c)])
    if setters:
        found.append(f'{setters} must not set AppArmor profile type to "Unconfined"')
    for key, value in sorted((meta.get("annotations") or {}).items()):
        if key.startswith(_APPARMOR) and value not in {"", "runtime/default"} and not value.startswith("localhost/"):
            found.append(f'annotation "{key}"="{value}"')
    return (_plural("forbidden AppArmor profile", len(found)), ", ".join(found)) if found else None


def _added(spec: Json, allowed: Iterable[str]) -> str:
    names, added = [], set()
    for container in _containers(spec):
        bad = {c for c in (_context(container).get("capabilities") or {}).get("add") or () if c not in allowed}
        if bad:
            names.append(container["name"])
            added |= bad
    if not names:
        return ""
    return f"{_named(names)} must not include {_quoted(sorted(added))} in securityContext.capabilities.add"


def _capabilities(_: Json, spec: Json) -> Finding | None:
    found = _added(spec, _DEFAULT_CAPABILITIES)
    return ("non-default capabilities", found) if found else None


def _host_namespaces(_: Json, spec: Json) -> Finding | None:
    found = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(_: Json, spec: Json) -> Finding | None:
    found = [v["name"] for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', len(found))} {_quoted(found)}") if found else None


def _host_ports(_: Json, spec: Json) -> Finding | None:
    names, ports = [], set()
    for container in _containers(spec):
        bad = {p["hostPort"] for p in container.get("ports") or () if p.get("hostPort")}
        if bad:
            names.append(container["name"])
            ports |= bad
    if not names:
        return None
    use = _plural("uses", len(names), "use")
    listed = ", ".join(map(str, sorted(ports)))
    return "hostPort", f"{_named(names)} {use} {_plural('hostPort', len(ports))} {listed}"


def _privileged(_: Json, spec: Json) -> Finding | None:
    found = [c["name"] for c in _containers(spec) if _context(c).get("privileged")]
    return ("privileged", f"{_named(found)} must not set securityContext.privileged=true") if found else None


def _proc_mount(_: Json, spec: Json) -> Finding | None:
    found = {c["name"]: _context(c)["procMount"] for c in _containers(spec) if _context(c).get("procMount")}
    found = {name: kind for name, kind in found.items() if kind != "Default"}
    if not found:
        return None
    kinds = _quoted(sorted(set(found.values())))
    return "procMount", f"{_named(list(found))} must not set securityContext.procMount to {kinds}"


def _selinux(_: Json, spec: Json) -> Finding | None:
    types: set[str] = set()
    user = role = False

    def bad(owner: Json) -> bool:
        nonlocal user, role
        options = _context(owner).get("seLinuxOptions")
        if not options:
            return False
        wrong = options.get("type") or ""
        if wrong not in _SELINUX_TYPES:
            types.add(wrong)
        user, role = user or bool(options.get("user")), role or bool(options.get("role"))
        return wrong not in _SELINUX_TYPES or bool(options.get("user")) or bool(options.get("role"))

    pod = bad(spec)
    setters = _setters(pod, [c["name"] for c in _containers(spec) if bad(c)])
    if not setters:
        return None
    data = [f"{_plural('type', len(types))} {_quoted(sorted(types))}"] if types else []
    data += ["user may not be set"] if user else []
    data += ["role may not be set"] if role else []
    return "seLinuxOptions", f"{setters} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"


def _seccomp_type(owner: Json) -> str | None:
    profile = _context(owner).get("seccompProfile")
    return None if profile is None else str(profile.get("type") or "")


def _forbidden_seccomp(spec: Json, bad: Callable[[str], bool]) -> Finding | None:
    types: set[str] = set()
    names = []
    pod = _seccomp_type(spec)
    if pod is not None and bad(pod):
        types.add(pod)
    for container in _containers(spec):
        found = _seccomp_type(container)
        if found is not None and bad(found):
            names.append(container["name"])
            types.add(found)
    setters = _setters(pod is not None and bad(pod), names)
    if not setters:
        return None
    return "seccompProfile", f"{setters} must not set securityContext.seccompProfile.type to {_quoted(sorted(types))}"


def _seccomp(_: Json, spec: Json) -> Finding | None:
    return _forbidden_seccomp(spec, lambda found: found == "Unconfined")


def _sysctls(_: Json, spec: Json) -> Finding | None:
    found = [s["name"] for s in _context(spec).get("sysctls") or () if s.get("name") not in _SYSCTLS]
    return ("forbidden sysctls", ", ".join(found)) if found else None


def _host_process(_: Json, spec: Json) -> Finding | None:
    def bad(owner: Json) -> bool:
        return bool((_context(owner).get("windowsOptions") or {}).get("hostProcess"))

    setters = _setters(bad(spec), [c["name"] for c in _containers(spec) if bad(c)])
    if not setters:
        return None
    return "hostProcess", f"{setters} must not set securityContext.windowsOptions.hostProcess=true"


def _escalation(_: Json, spec: Json) -> Finding | None:
    if _windows(spec):
        return None
    found = [c["name"] for c in _containers(spec) if _context(c).get("allowPrivilegeEscalation") is not False]
    if not found:
        return None
    why = f"{_named(found)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", why


def _dropped_capabilities(_: Json, spec: Json) -> Finding | None:
    if _windows(spec):
        return None
    kept = [
        c["name"] for c in _containers(spec) if "ALL" not in ((_context(c).get("capabilities") or {}).get("drop") or ())
    ]
    found = [f'{_named(kept)} must set securityContext.capabilities.drop=["ALL"]'] if kept else []
    added = _added(spec, {"NET_BIND_SERVICE"})
    if added:
        found.append(added)
    return ("unrestricted capabilities", "; ".join(found)) if found else None


def _volume_types(_: Json, spec: Json) -> Finding | None:
    names, types = [], set()
    for volume in spec.get("volumes") or ():
        kind = next((k for k in volume if k != "name"), "unknown")
        if kind not in _VOLUMES:
            names.append(volume["name"])
            types.add(kind)
    if not names:
        return None
    use = _plural("uses", len(names), "use")
    kinds = f"{_plural('restricted volume type', len(types))} {_quoted(sorted(types))}"
    return "restricted volume types", f"{_plural('volume', len(names))} {_quoted(names)} {use} {kinds}"


def _non_root(_: Json, spec: Json) -> Finding | None:
    pod = _context(spec).get("runAsNonRoot")
    told = {c["name"]: _context(c).get("runAsNonRoot") for c in _containers(spec)}
    explicit = _setters(pod is False, [n for n, value in told.items() if value is False])
    if explicit:
        return "runAsNonRoot != true", f"{explicit} must not set securityContext.runAsNonRoot=false"
    implicit = [n for n, value in told.items() if value is None] if not pod else []
    if not implicit:
        return None
    return "runAsNonRoot != true", f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true"


def _root_user(_: Json, spec: Json) -> Finding | None:
    def bad(owner: Json) -> bool:
        return _context(owner).get("runAsUser") == 0

    setters = _setters(bad(spec), [c["name"] for c in _containers(spec) if bad(c)])
    return ("runAsUser=0", f"{setters} must not set runAsUser=0") if setters else None


def _seccomp_restricted(_: Json, spec: Json) -> Finding | None:
    if _windows(spec):
        return None
    explicit = _forbidden_seccomp(spec, lambda found: found not in {"RuntimeDefault", "Localhost"})
    if explicit is not None:
        return explicit
    if _seccomp_type(spec) is not None:
        return None
    implicit = [c["name"] for c in _containers(spec) if _seccomp_type(c) is None]
    if not implicit:
        return None
    wanted = 'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(implicit)} must set {wanted}"


_BASELINE = (
    _app_armor,
    _capabilities,
    _host_namespaces,
    _host_paths,
    _host_ports,
    _privileged,
    _proc_mount,
    _selinux,
    _seccomp,
    _sysctls,
    _host_process,
)
_REPLACED = frozenset({_capabilities, _host_paths, _seccomp})
_RESTRICTED = (_escalation, _dropped_capabilities, _volume_types, _non_root, _root_user, _seccomp_restricted)
