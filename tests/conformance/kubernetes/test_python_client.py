"""The official Python client against the API server."""

import threading

import pytest
from kubernetes import client, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


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


MANIFESTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  maxReplicas: 3
  targetCPUUtilizationPercentage: 50
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-mine, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{port: 8080}]
"""


def test_manifests_from_a_file(api_client, space, tmp_path):
    path = tmp_path / "all.yaml"
    path.write_text(MANIFESTS)
    utils.create_from_yaml(api_client, str(path), namespace=space)
    with pytest.raises(utils.FailToCreateError, match="already exists"):
        utils.create_from_yaml(api_client, str(path), namespace=space)
    scaler = client.AutoscalingV2Api(api_client).read_namespaced_horizontal_pod_autoscaler("web", space)
    assert scaler.spec.metrics[0].resource.target.average_utilization == 50
    old = client.AutoscalingV1Api(api_client).read_namespaced_horizontal_pod_autoscaler("web", space)
    assert old.spec.target_cpu_utilization_percentage == 50
    slices = client.DiscoveryV1Api(api_client).list_namespaced_endpoint_slice(space)
    assert slices.items[0].endpoints[0].addresses == ["192.0.2.1"]


def test_dynamic_client(api_client, space):
    dynamic = DynamicClient(api_client)
    maps = dynamic.resources.get(api_version="v1", kind="ConfigMap")
    made = maps.create(body={"metadata": {"name": "a"}, "data": {"x": "1"}}, namespace=space)
    timer = threading.Timer(0.3, lambda: maps.patch(name="a", namespace=space, body={"data": {"x": "2"}}))
    timer.start()
    version = made.metadata.resourceVersion
    watching = maps.watch(namespace=space, name="a", resource_version=version, timeout=10)
    event = next(iter(watching))
    timer.join()
    assert (event["type"], event["object"].data.x) == ("MODIFIED", "2")
    assert [m.metadata.name for m in maps.get(namespace=space).items if m.metadata.name != "kube-root-ca.crt"] == ["a"]
    with pytest.raises(ResourceNotFoundError):
        dynamic.resources.get(api_version="nowhere/v1", kind="Nothing")
    maps.delete(name="a", namespace=space)


def test_a_watch_from_too_long_ago_lists_again(core, background, space):
    background.run(background.http.cluster.store.compact(0))
    with pytest.raises(ApiException) as gone:
        next(watch.Watch().stream(core.list_namespaced_pod, space, resource_version="1", timeout_seconds=5))
    assert gone.value.status == 410
    core.create_namespaced_pod(space, pod("one"))
    event = next(watch.Watch().stream(core.list_namespaced_pod, space, timeout_seconds=5))
    assert (event["type"], event["object"].metadata.name) == ("ADDED", "one")


def test_leader_election(api_client, space):
    """Two candidates and one lock: the second does not get it while the first renews it."""

    def candidate(name):
        lock = ConfigMapLock("leader", space, name)
        lock.api_instance = client.CoreV1Api(api_client)
        chosen = electionconfig.Config(
            lock, lease_duration=17, renew_deadline=15, retry_period=5, onstarted_leading=print, onstopped_leading=None
        )
        return leaderelection.LeaderElection(chosen)

    first = candidate("me")
    assert first.try_acquire_or_renew()
    assert not candidate("you").try_acquire_or_renew()
    assert first.try_acquire_or_renew()


def test_counts_are_there_from_the_beginning(api_client, core, space):
    """The client refuses an answer without the counts that Go always writes."""
    apps, labels = client.AppsV1Api(api_client), {"a": "b"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    assert apps.create_namespaced_stateful_set(space, {**body, "spec": {**body["spec"], "serviceName": "x"}})
    assert apps.create_namespaced_daemon_set(space, body).status.number_ready == 0
    assert apps.create_namespaced_replica_set(space, body).status.replicas == 0
    old = {"metadata": {"name": "x"}, "spec": {"template": template}}
    assert core.create_namespaced_replication_controller(space, old).status.replicas == 0
    policy = client.PolicyV1Api(api_client)
    budget = {"metadata": {"name": "x"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}}
    assert policy.create_namespaced_pod_disruption_budget(space, budget).status.disruptions_allowed == 0
