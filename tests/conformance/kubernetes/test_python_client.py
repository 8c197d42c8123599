"""The official Python client against the API server."""

import threading

import pytest
from kubernetes import client, config, utils, watch
from kubernetes.client.exceptions import ApiException

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def api_client(background):
    made = config.new_client_from_config(str(background.http.kubeconfig))
    yield made
    made.rest_client.pool_manager.clear()
    made.close()


@pytest.fixture
def core(api_client):
    return client.CoreV1Api(api_client)


@pytest.fixture
def space(core, request):
    name = request.node.name.replace("_", "-")[:60]
    core.create_namespace({"metadata": {"name": name}})
    return name


def pod(name):
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": "a"}),
        spec=client.V1PodSpec(
            restart_policy="Never",
            containers=[client.V1Container(name="main", image="img", command=["true"])],
        ),
    )


def test_pods(core, space):
    made = core.create_namespaced_pod(space, pod("one"))
    assert made.status.phase == "Pending"
    assert made.metadata.creation_timestamp.tzinfo is not None
    assert [p.metadata.name for p in core.list_namespaced_pod(space, label_selector="app=a").items] == ["one"]
    core.patch_namespaced_pod("one", space, {"metadata": {"labels": {"b": "c"}}})
    assert core.read_namespaced_pod("one", space).metadata.labels == {"app": "a", "b": "c"}
    assert core.read_namespaced_pod_log("one", space) == "first\nsecond\n"
    assert core.delete_namespaced_pod("one", space, grace_period_seconds=0).metadata.name == "one"
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_pod("one", space)
    assert (gone.value.status, gone.value.reason) == (404, "Not Found")


def test_config_maps_and_conflicts(core, space):
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"x": "1"})
    made = core.create_namespaced_config_map(space, body)
    with pytest.raises(ApiException) as exists:
        core.create_namespaced_config_map(space, body)
    assert exists.value.status == 409
    made.data = {"x": "2"}
    core.replace_namespaced_config_map("a", space, made)
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("a", space, made)
    assert stale.value.status == 409
    assert core.delete_namespaced_config_map("a", space).status == "Success"
    core.create_namespaced_config_map(space, body)
    core.delete_collection_namespaced_config_map(space)
    assert core.list_namespaced_config_map(space).items == []


def test_watch(core, space):
    version = core.list_namespaced_pod(space).metadata.resource_version
    timer = threading.Timer(0.3, core.create_namespaced_pod, (space, pod("one")))
    timer.start()
    stream = watch.Watch()
    seen = []
    for event in stream.stream(core.list_namespaced_pod, space, resource_version=version, timeout_seconds=10):
        seen.append((event["type"], event["object"].metadata.name))
        stream.stop()
    timer.join()
    assert seen == [("ADDED", "one")]


def test_deployments_jobs_and_yaml(api_client, space):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    utils.create_from_dict(api_client, deployment, namespace=space)
    apps = client.AppsV1Api(api_client)
    apps.patch_namespaced_deployment_scale("web", space, {"spec": {"replicas": 3}})
    assert apps.read_namespaced_deployment("web", space).spec.replicas == 3
    assert apps.read_namespaced_deployment_scale("web", space).spec.replicas == 3
    job_template = {"spec": {**template["spec"], "restartPolicy": "Never"}}
    client.BatchV1Api(api_client).create_namespaced_job(
        space, {"metadata": {"name": "once"}, "spec": {"template": job_template}}
    )
    assert client.BatchV1Api(api_client).read_namespaced_job("once", space).spec.parallelism == 1


def test_custom_objects(api_client, space):
    group, plural = "python.example.com", "gadgets"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": "gadget", "kind": "Gadget"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    }
    client.ApiextensionsV1Api(api_client).create_custom_resource_definition(crd)
    custom = client.CustomObjectsApi(api_client)
    body = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"n": 1}}
    custom.create_namespaced_custom_object(group, "v1", space, plural, body)
    custom.patch_namespaced_custom_object(group, "v1", space, plural, "g", {"spec": {"m": 2}})
    found = custom.get_namespaced_custom_object(group, "v1", space, plural, "g")
    assert found["spec"] == {"n": 1, "m": 2}
    assert len(custom.list_namespaced_custom_object(group, "v1", space, plural)["items"]) == 1
    custom.delete_namespaced_custom_object(group, "v1", space, plural, "g")


def test_tokens_and_reviews(api_client, core, background, space):
    core.create_namespaced_service_account(space, {"metadata": {"name": "bob"}})
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=["a"], expiration_seconds=600)
    )
    token = core.create_namespaced_service_account_token("bob", space, request).status.token
    review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=["a"]))
    status = client.AuthenticationV1Api(api_client).create_token_review(review).status
    assert status.authenticated
    assert status.user.username == f"system:serviceaccount:{space}:bob"
    attributes = client.V1ResourceAttributes(verb="get", resource="pods", namespace=space)
    body = client.V1SubjectAccessReview(
        spec=client.V1SubjectAccessReviewSpec(user=status.user.username, resource_attributes=attributes)
    )
    assert not client.AuthorizationV1Api(api_client).create_subject_access_review(body).status.allowed


def test_denials(background):
    anonymous = client.Configuration(host=background.http.server.url)
    anonymous.ssl_ca_cert = str(background.http.pki.ca)
    with client.ApiClient(anonymous) as nobody:
        with pytest.raises(ApiException) as denied:
            client.CoreV1Api(nobody).list_namespace()
        assert denied.value.status == 401
        assert client.VersionApi(nobody).get_code().git_version.startswith("v1.32.")
        nobody.rest_client.pool_manager.clear()
    untrusting = client.Configuration(host=background.http.server.url)
    untrusting.retries = False
    with client.ApiClient(untrusting) as stranger, pytest.raises(ApiException, match="certificate verify failed"):
        client.VersionApi(stranger).get_code()
