"""Who may: certificates, tokens, impersonation, reviews, and each denial beside its permission."""

import datetime as dt

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from headrace.api.core import Pod, ServiceAccount
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.api.rbac import PolicyRule, Role, RoleBinding, RoleRef, Subject
from headrace.apiserver.authn.tokens import GATEWAY_AUDIENCE, ISSUER

PODS = "/api/v1/namespaces/default/pods"


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def bob(http):
    """A service account that may read pods in `default`, and a way to get its tokens."""
    client = http.cluster.client
    account = await client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    meta = ObjectMeta(name="reader", namespace="default")
    await client.create(Role(metadata=meta, rules=[PolicyRule(["get", "list"], api_groups=[""], resources=["pods"])]))
    subject = Subject(kind="ServiceAccount", name="bob", namespace="default")
    await client.create(RoleBinding(metadata=meta, role_ref=RoleRef("Role", "reader"), subjects=[subject]))
    return account


def issue(http, **options):
    return http.tokens.issue(ADMIN, "default", "bob", **options)


async def test_a_token_opens_what_its_roles_allow_and_nothing_else(nobody, http, bob):
    token = await issue(http)
    assert (await nobody.get(PODS, **bearer(token))).status == 200
    foreign = await nobody.get("/api/v1/namespaces/kubeflow/pods", **bearer(token))
    assert (foreign.status, foreign.json["reason"]) == (403, "Forbidden")
    assert 'User "system:serviceaccount:default:bob" cannot list resource "pods"' in foreign.json["message"]
    assert (await nobody("POST", PODS, {}, **bearer(token))).status == 403


@pytest.mark.parametrize("path", [PODS, "/api", "/apis", "/openapi/v3", "/metrics", "/nonsense"])
async def test_nobody_is_unauthorized(nobody, path):
    answer = await nobody.get(path)
    assert (answer.status, answer.json["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/livez/ping", "/version"])
async def test_nobody_may_ask_for_health(nobody, path):
    assert (await nobody.get(path)).status == 200


async def test_tokens_that_are_not_valid(nobody, api, http, bob):
    good = await issue(http)
    forged_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = http.tokens.claims(good)
    now = int(dt.datetime.now(dt.UTC).timestamp())
    key = http.tokens._key
    for bad in (
        "nonsense",
        "",
        good[:-4] + "AAAA",
        await issue(http, audiences=("pipelines.kubeflow.org",)),
        jwt.encode(claims, forged_key, "RS256"),
        jwt.encode(claims, "", "none"),
        jwt.encode({**claims, "exp": now - 1}, key, "RS256"),
        jwt.encode({**claims, "nbf": now + 600}, key, "RS256"),
        jwt.encode({**claims, "iss": "https://elsewhere"}, key, "RS256"),
        jwt.encode({"sub": claims["sub"], "iss": ISSUER, "aud": [ISSUER], "exp": now + 60}, key, "RS256"),
    ):
        answer = await nobody.get(PODS, **bearer(bad))
        assert (answer.status, answer.json["message"]) == (401, "Unauthorized"), bad
    # a bad token is an error also for whoever has a good certificate
    assert (await api.get(PODS, **bearer("nonsense"))).status == 401
    assert (await nobody.get(PODS, **bearer(good))).status == 200


async def test_deleting_the_account_revokes_its_tokens(nobody, http, bob):
    token = await issue(http)
    assert (await nobody.get(PODS, **bearer(token))).status == 200
    await http.cluster.client.delete(ServiceAccount, "bob", "default")
    assert (await nobody.get(PODS, **bearer(token))).status == 401
    await http.cluster.client.create(ServiceAccount(metadata=ObjectMeta(name="bob", namespace="default")))
    assert (await nobody.get(PODS, **bearer(token))).status == 401  # another uid


async def test_a_token_bound_to_a_pod_ends_with_it(nobody, http, bob):
    pod = Pod(metadata=ObjectMeta(name="p", namespace="default"))
    pod.spec.containers = [{"name": "c", "image": "i"}]
    made = await http.cluster.client.create(pod)
    token = await issue(http, pod_name="p", pod_uid=made.metadata.uid)
    user = await http.tokens.review(token)
    assert user.extra["authentication.kubernetes.io/pod-uid"] == (made.metadata.uid,)
    assert (await nobody.get(PODS, **bearer(token))).status == 200
    await http.cluster.client.delete(Pod, "p", "default")
    assert (await nobody.get(PODS, **bearer(token))).status == 401


async def test_token_request(api, nobody, bob):
    path = "/api/v1/namespaces/default/serviceaccounts/bob/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    made = await api("POST", path, body)
    assert made.status == 201
    token = made.json["status"]["token"]
    assert made.json["spec"]["audiences"] == [ISSUER]
    assert (await nobody.get(PODS, **bearer(token))).status == 200
    # an account may not make tokens for itself without being allowed to
    assert (await nobody("POST", path, body, **bearer(token))).status == 403
    short = await api("POST", path, {**body, "spec": {"expirationSeconds": 60}})
    assert (short.status, short.json["details"]["causes"][0]["field"]) == (422, "spec.expirationSeconds")
    assert (await api("POST", path.replace("bob", "nobody"), body)).status == 404


async def test_impersonation(api, nobody, http, bob):
    who = "system:serviceaccount:default:bob"
    allowed = await api.get(PODS, Impersonate_User=who)
    denied = await api.get("/api/v1/secrets", Impersonate_User=who)
    assert (allowed.status, denied.status) == (200, 403)
    token = await issue(http)
    refused = await nobody.get(PODS, **bearer(token), Impersonate_User="admin")
    assert refused.status == 403
    assert 'cannot impersonate resource "users"' in refused.json["message"]
    assert (await nobody.get("/version", Impersonate_User="admin")).status == 401
    assert (await api.get(PODS, Impersonate_Group="system:masters")).status == 400
    masters = await api.get("/api/v1/secrets", Impersonate_User="x", Impersonate_Group="system:masters")
    assert masters.status == 200


async def _review(caller, group, plural, spec, **headers):
    answer = await caller("POST", f"/apis/{group}/v1/{plural}", {"spec": spec}, **headers)
    assert answer.status == 201, answer.body
    return answer.json["status"]


async def test_token_review(api, nobody, http, bob):
    token = await issue(http, audiences=("pipelines.kubeflow.org", ISSUER))
    status = await _review(api, "authentication.k8s.io", "tokenreviews", {"token": token})
    assert status["user"]["username"] == "system:serviceaccount:default:bob"
    spec = {"token": token, "audiences": ["pipelines.kubeflow.org", "other"]}
    status = await _review(api, "authentication.k8s.io", "tokenreviews", spec)
    assert status["audiences"] == ["pipelines.kubeflow.org"]
    status = await _review(api, "authentication.k8s.io", "tokenreviews", {"token": token, "audiences": ["other"]})
    assert "authenticated" not in status
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert (await nobody("POST", path, {"spec": {"token": token}}, **bearer(token))).status == 403
    assert (await api("POST", path, {"spec": {}})).status == 422


async def test_access_reviews(api, nobody, http, bob):
    token = await issue(http)
    group = "authorization.k8s.io"
    may = {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}
    may_not = {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "kubeflow"}}
    for spec, allowed in ((may, True), (may_not, False)):
        status = await _review(nobody, group, "selfsubjectaccessreviews", spec, **bearer(token))
        assert status["allowed"] is allowed
        about = {**spec, "user": "system:serviceaccount:default:bob"}
        assert (await _review(api, group, "subjectaccessreviews", about))["allowed"] is allowed
    assert (
        await nobody("POST", f"/apis/{group}/v1/subjectaccessreviews", {"spec": may}, **bearer(token))
    ).status == 403
    assert (await api("POST", f"/apis/{group}/v1/selfsubjectaccessreviews", {"spec": {}})).status == 422
    rules = await _review(nobody, group, "selfsubjectrulesreviews", {"namespace": "default"}, **bearer(token))
    assert {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]} in rules["resourceRules"]
    rules = await _review(nobody, group, "selfsubjectrulesreviews", {"namespace": "kubeflow"}, **bearer(token))
    assert not any("pods" in r["resources"] for r in rules["resourceRules"])


async def test_who_am_i(api):
    status = await _review(api, "authentication.k8s.io", "selfsubjectreviews", {})
    assert status["userInfo"] == {"username": "kubernetes-admin", "groups": ["system:masters", "system:authenticated"]}


async def test_keys_are_published(api, http, bob):
    keys = (await api.get("/openid/v1/jwks")).json["keys"]
    found = jwt.PyJWK(keys[0])
    claims = jwt.decode(await issue(http), found.key, ["RS256"], audience=ISSUER, issuer=ISSUER)
    assert claims["sub"] == "system:serviceaccount:default:bob"
    document = (await api.get("/.well-known/openid-configuration")).json
    assert document["issuer"] == ISSUER
    assert document["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]


async def test_what_only_the_gateway_is_meant_to_read_is_signed_by_a_key_of_its_own(api, http, bob):
    keys = {key["kid"]: key for key in (await api.get("/openid/v1/jwks")).json["keys"]}
    for audiences, kind in (([GATEWAY_AUDIENCE], "EC"), ([GATEWAY_AUDIENCE, "vault"], "RSA"), (["vault"], "RSA")):
        token = await http.tokens.issue(ADMIN, "default", "bob", audiences=audiences)
        key = keys[jwt.get_unverified_header(token)["kid"]]
        assert key["kty"] == kind
        claims = jwt.decode(token, jwt.PyJWK(key).key, [key["alg"]], audience=audiences[0], issuer=ISSUER)
        assert claims["sub"] == "system:serviceaccount:default:bob"
        http.tokens._verified.clear()
        assert http.tokens.check(token, audiences[:1]) is not None, "also when it is verified anew"
        assert http.tokens.check(token) is None, "the API server is not meant"
    by_gateway = http.tokens._own_key
    forged = jwt.encode({**claims, "aud": [ISSUER]}, by_gateway, "ES256", headers={"kid": http.tokens.key_id})
    assert http.tokens.check(forged) is None, "the key's own kind of signature counts, whatever the token says"


async def test_metrics_need_permission(api, nobody, http, bob):
    assert b"apiserver_request_total" in (await api.get("/metrics")).body
    assert (await nobody.get("/metrics", **bearer(await issue(http)))).status == 403
