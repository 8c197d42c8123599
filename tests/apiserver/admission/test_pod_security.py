"""PodSecurity: each check in the real words, and on a real registry what is refused and what is warned of."""

import pytest

from headrace.api import _wire
from headrace.api.apps import Deployment
from headrace.api.batch import CronJob
from headrace.api.core import Namespace, Pod
from headrace.api.errors import Forbidden, Invalid
from headrace.api.identity import ADMIN
from headrace.api.networking import Ingress, IngressClass
from headrace.apiserver.admission.pod_checks import findings
from headrace.testing import embedded_cluster

GOOD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def spec(container=None, more=(), **fields):
    first = {"name": "a", "securityContext": {**GOOD, **(container or {})}}
    return {"containers": [first, *more], **fields}


def pod_context(**fields):
    return spec(securityContext=fields)


@pytest.mark.parametrize(
    ("found", "meta", "pod"),
    [
        (None, {}, spec()),
        ("host namespaces (hostNetwork=true, hostPID=true)", {}, spec(hostNetwork=True, hostPID=True)),
        ('hostPath volumes (volume "v")', {}, spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
        (
            'hostPort (container "b" uses hostPorts 80, 81)',
            {},
            spec(more=[{"name": "b", "ports": [{"hostPort": 81}, {"hostPort": 80}, {"containerPort": 1}]}]),
        ),
        ('privileged (container "a" must not set securityContext.privileged=true)', {}, spec({"privileged": True})),
        (
            (
                'non-default capabilities (container "a" must not include "NET_ADMIN", "SYS_TIME" in '
                "securityContext.capabilities.add)"
            ),
            {},
            spec({"capabilities": {"add": ["SYS_TIME", "NET_ADMIN", "CHOWN"]}}),
        ),
        (
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
            {},
            spec({"procMount": "Unmasked"}),
        ),
        (
            (
                'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
                "user may not be set; role may not be set)"
            ),
            {},
            spec({"seLinuxOptions": {"type": "spc_t", "user": "u"}}, securityContext={"seLinuxOptions": {"role": "r"}}),
        ),
        (
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
            {},
            pod_context(seccompProfile={"type": "Unconfined"}),
        ),
        ("forbidden sysctls (kernel.msgmax)", {}, pod_context(sysctls=[{"name": "kernel.msgmax"}])),
        (None, {}, pod_context(sysctls=[{"name": "net.ipv4.tcp_rmem"}])),
        (
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            {},
            pod_context(windowsOptions={"hostProcess": True}),
        ),
        (
            (
                'forbidden AppArmor profiles (container "a" must not set AppArmor profile type to "Unconfined", '
                'annotation "container.apparmor.security.beta.kubernetes.io/a"="unconfined")'
            ),
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}},
            spec({"appArmorProfile": {"type": "Unconfined"}}),
        ),
    ],
)
def test_baseline(found, meta, pod):
    told = [f"{what} ({detail})" for what, detail in findings("baseline", meta, pod)]
    assert told == ([found] if found else [])
    assert findings("privileged", meta, pod) == []


@pytest.mark.parametrize(
    ("found", "pod"),
    [
        (None, spec()),
        (
            (
                'allowPrivilegeEscalation != false (containers "a", "b" must set '
                "securityContext.allowPrivilegeEscalation=false)"
            ),
            spec(
                {"allowPrivilegeEscalation": True},
                more=[{"name": "b", "securityContext": {**GOOD, "allowPrivilegeEscalation": None}}],
            ),
        ),
        (
            (
                'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
                'container "a" must not include "CHOWN" in securityContext.capabilities.add)'
            ),
            spec({"capabilities": {"add": ["CHOWN", "NET_BIND_SERVICE"]}}),
        ),
        (
            'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")',
            spec(
                volumes=[
                    {"name": "v", "hostPath": {"path": "/"}},
                    {"name": "w", "nfs": {}},
                    {"name": "x", "emptyDir": {}},
                ]
            ),
        ),
        (
            'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)',
            spec({"runAsNonRoot": None}),
        ),
        (
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
            spec({"runAsNonRoot": False}, securityContext={"runAsNonRoot": True}),
        ),
        (None, spec({"runAsNonRoot": None}, securityContext={"runAsNonRoot": True})),
        (
            'runAsUser=0 (pod and container "a" must not set runAsUser=0)',
            spec({"runAsUser": 0}, securityContext={"runAsUser": 0}),
        ),
        (
            (
                'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" '
                'or "Localhost")'
            ),
            spec({"seccompProfile": None}),
        ),
        (None, spec({"seccompProfile": None}, securityContext={"seccompProfile": {"type": "Localhost"}})),
        (
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
            spec({"seccompProfile": {"type": "Unconfined"}}),
        ),
    ],
)
def test_restricted(found, pod):
    told = [f"{what} ({detail})" for what, detail in findings("restricted", {}, pod)]
    assert told == ([found] if found else [])


PLAIN = {"containers": [{"name": "c", "image": "i"}]}
SAFE = {"containers": [{"name": "c", "image": "i", "securityContext": GOOD}]}
VIOLATIONS = (
    'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), '
    'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
    'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
    'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" '
    'or "Localhost")'
)


@pytest.fixture
async def registry():
    async with embedded_cluster() as cluster:
        yield cluster.registry


async def space(registry, **levels):
    labels = {f"pod-security.kubernetes.io/{k.replace('_', '-')}": v for k, v in levels.items()}
    await registry.create(ADMIN, Namespace.INFO, {"metadata": {"name": "ns", "labels": labels}})


async def pod(registry, name, body, warnings=None):
    return await registry.create(ADMIN, Pod.INFO, {"metadata": {"name": name}, "spec": body}, "ns", warnings=warnings)


async def test_a_level_is_enforced_on_pods(registry):
    await space(registry, enforce="restricted", enforce_version="v1.30")
    with pytest.raises(Forbidden) as refused:
        await pod(registry, "p", PLAIN)
    assert refused.value.message == f'pods "p" is forbidden: violates PodSecurity "restricted:v1.30": {VIOLATIONS}'
    await pod(registry, "q", SAFE)
    debugger = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "i"}]}}
    with pytest.raises(Forbidden, match='container "debug" must set'):
        await registry.patch(ADMIN, Pod.INFO, "q", debugger, "ns", subresource="ephemeralcontainers")
    await registry.patch(ADMIN, Pod.INFO, "q", {"metadata": {"labels": {"a": "b"}}}, "ns")


async def test_workloads_are_taken_with_a_warning(registry):
    await space(registry, warn="restricted", enforce="baseline")
    warnings: list[str] = []
    template = {"metadata": {"labels": {"a": "b"}}, "spec": PLAIN}
    body = {"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    await registry.create(ADMIN, Deployment.INFO, body, "ns", warnings=warnings)
    expected = [f'would violate PodSecurity "restricted:latest": {VIOLATIONS}']
    assert warnings == expected
    job = {"spec": {"template": {"spec": {**PLAIN, "restartPolicy": "Never"}}}}
    cron = {"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate": job}}
    warnings.clear()
    await registry.create(ADMIN, CronJob.INFO, cron, "ns", warnings=warnings)
    assert warnings == expected
    warnings.clear()
    await pod(registry, "p", PLAIN, warnings)
    assert warnings == expected
    warnings.clear()
    await registry.patch(ADMIN, Pod.INFO, "p", {"metadata": {"labels": {"x": "y"}}}, "ns", warnings=warnings)
    await registry.patch(ADMIN, Deployment.INFO, "d", {"status": {}}, "ns", subresource="status", warnings=warnings)
    assert warnings == []
    with pytest.raises(Forbidden, match='violates PodSecurity "baseline:latest": host namespaces'):
        await pod(registry, "h", {**PLAIN, "hostNetwork": True})


async def test_a_namespace_that_becomes_stricter_names_the_pods_that_it_has(registry):
    await space(registry)
    for name in ("a", "b"):
        await pod(registry, name, PLAIN)
    await pod(registry, "safe", SAFE)
    warnings: list[str] = []
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await registry.patch(ADMIN, Namespace.INFO, "ns", labels, warnings=warnings)
    assert warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "restricted:latest"',
        f"a (and 1 other pod): {VIOLATIONS}",
    ]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("enforce", "strict", 'Invalid value: "strict": must be one of privileged, baseline, restricted'),
        ("warn-version", "1.30", 'Invalid value: "1.30": must be "latest" or "v1.x"'),
    ],
)
async def test_labels_that_mean_nothing_are_refused(registry, key, value, why):
    with pytest.raises(Invalid) as refused:
        await space(registry, **{key: value})
    (cause,) = refused.value.causes
    assert (cause.field, cause.message) == (f"metadata.labels[pod-security.kubernetes.io/{key}]", why)


async def test_the_default_ingress_class(registry):
    def ingress_class(name, default):
        marks = {"ingressclass.kubernetes.io/is-default-class": "true"} if default else {}
        return {"metadata": {"name": name, "annotations": marks}, "spec": {"controller": "a.b/c"}}

    async def ingress(name, annotations=None, **fields):
        backend = {"service": {"name": "s", "port": {"number": 80}}}
        body = {
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"defaultBackend": backend, **fields},
        }
        made = _wire.decode_any(await registry.create(ADMIN, Ingress.INFO, body, "default"))
        return made["spec"].get("ingressClassName")

    await registry.create(ADMIN, IngressClass.INFO, ingress_class("plain", False))
    assert await ingress("none") is None
    await registry.create(ADMIN, IngressClass.INFO, ingress_class("chosen", True))
    assert await ingress("default") == "chosen"
    assert await ingress("named", ingressClassName="plain") == "plain"
    assert await ingress("annotated", {"kubernetes.io/ingress.class": "plain"}) is None
