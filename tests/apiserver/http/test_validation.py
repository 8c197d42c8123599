"""What the registry finds, as HTTP says it: warnings, causes."""

import pytest

CMS = "/api/v1/namespaces/default/configmaps"


async def test_warnings_become_headers(api):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "nonsense": 1}
    answer = await api("POST", CMS, body)
    assert answer.status == 201
    assert 'unknown field "nonsense"' in answer.headers["Warning"].replace("\\", "")


async def test_strict_validation_and_wrong_types_name_the_field(api):
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "nonsense": 1}
    strict = await api("POST", f"{CMS}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert 'unknown field "nonsense"' in strict.json["message"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}
    invalid = await api("POST", "/api/v1/namespaces/default/pods", pod)
    assert (invalid.status, invalid.json["reason"]) == (422, "Invalid")
    assert "spec.containers" in {c["field"] for c in invalid.json["details"]["causes"]}


NETWORKING = "/apis/networking.k8s.io/v1/namespaces/default"


@pytest.mark.parametrize(
    ("path", "spec", "words"),
    [
        ("/api/v1/namespaces/default/services", {"type": "NodePort", "ports": [{"port": 80}]}, "port-forward"),
        ("/api/v1/namespaces/default/services", {"type": "LoadBalancer", "ports": [{"port": 80}]}, "port-forward"),
        ("/api/v1/namespaces/default/services", {"ports": [{"port": 80}]}, ""),
        (f"{NETWORKING}/networkpolicies", {"podSelector": {}}, "not enforced"),
        (
            f"{NETWORKING}/ingresses",
            {"defaultBackend": {"service": {"name": "a", "port": {"number": 1}}}},
            "no ingress",
        ),
    ],
)
async def test_what_is_kept_without_effect_is_said(api, path, spec, words):
    answer = await api("POST", path, {"metadata": {"name": "a"}, "spec": spec})
    assert answer.status == 201, answer.body
    assert words in answer.headers.get("Warning", "")
    assert bool(words) == ("Warning" in answer.headers)


async def test_a_number_with_a_point_is_no_integer_on_any_way_in(api):
    """Else what was taken at creation could never be changed again."""
    path = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    budget = {"metadata": {"name": "x"}, "spec": {"minAvailable": 0.0, "selector": {}}}
    refused = await api("POST", path, budget)
    assert (refused.status, "minAvailable" in refused.json["message"]) == (400, True)
