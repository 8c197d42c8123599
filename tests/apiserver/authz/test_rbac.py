"""RBAC by tables: each permission beside its denial."""

import pytest

from headrace.api import _wire
from headrace.api.errors import Forbidden, NotFound
from headrace.api.identity import ADMIN, ANONYMOUS, User, service_account
from headrace.api.rbac import ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding
from headrace.apiserver.authz import escalation
from headrace.apiserver.authz.bootstrap import default_objects
from headrace.apiserver.authz.rbac import Attributes, Authorizer, rule_allows

KINDS = {k.INFO.kind: k.INFO for k in (ClusterRole, ClusterRoleBinding, Role, RoleBinding)}


class Cluster:
    """Roles and bindings, and an authorizer over them."""

    def __init__(self, *objects):
        self.objects = list(objects)
        self.authorizer = Authorizer(lambda info: [_wire.encode(o) for o in self.objects if KINDS[o["kind"]] == info])

    def add(self, *objects):
        self.objects += objects
        self.authorizer.changed()

    def allows(self, user, verb, resource, *, group="", ns="", name="", path=""):
        plural, _, part = resource.partition("/")
        return self.authorizer.allows(user, Attributes(verb, group, plural, part, ns, name, path))


def role(name, *rules, ns="", labels=None, gathers=None):
    made = {
        "kind": "Role" if ns else "ClusterRole",
        "metadata": {"name": name, "namespace": ns, "labels": labels or {}},
    }
    if gathers:
        made["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": gathers}]}
    else:
        made["rules"] = list(rules)
    return made


def bind(to, *subjects, ns="", kind="ClusterRole"):
    return {
        "kind": "RoleBinding" if ns else "ClusterRoleBinding",
        "metadata": {"name": f"{to}-{ns}", "namespace": ns},
        "roleRef": {"kind": kind, "name": to},
        "subjects": list(subjects),
    }


def rule(verbs, resources, groups=("",), names=()):
    made = {"verbs": verbs.split(), "apiGroups": list(groups), "resources": resources.split()}
    return made | ({"resourceNames": list(names)} if names else {})


ALICE, BOB = User("alice"), User("bob", groups=("team",))
TO_ALICE, TO_TEAM = {"kind": "User", "name": "alice"}, {"kind": "Group", "name": "team"}


@pytest.mark.parametrize(
    ("made", "asked", "allowed"),
    [
        (rule("get", "pods"), Attributes("get", resource="pods"), True),
        (rule("get", "pods"), Attributes("list", resource="pods"), False),
        (rule("get", "pods"), Attributes("get", resource="secrets"), False),
        (rule("get", "pods"), Attributes("get", "apps", "pods"), False),
        (rule("get", "pods"), Attributes("get", resource="pods", subresource="log"), False),
        (rule("get", "pods/log"), Attributes("get", resource="pods", subresource="log"), True),
        (rule("get", "pods/log"), Attributes("get", resource="pods"), False),
        (rule("get", "*/log"), Attributes("get", resource="pods", subresource="log"), True),
        (rule("get", "*/log"), Attributes("get", resource="pods", subresource="exec"), False),
        (rule("*", "*", ("*",)), Attributes("delete", "any.group", "things", "scale"), True),
        (rule("get", "pods", names=("a",)), Attributes("get", resource="pods", name="a"), True),
        (rule("get", "pods", names=("a",)), Attributes("get", resource="pods", name="b"), False),
        (rule("list", "pods", names=("a",)), Attributes("list", resource="pods"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}, Attributes("get", path="/metrics"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}, Attributes("get", path="/metrics/x"), False),
        ({"verbs": ["get"], "nonResourceURLs": ["/api/*"]}, Attributes("get", path="/api/v1"), True),
        ({"verbs": ["get"], "nonResourceURLs": ["*"]}, Attributes("post", path="/x"), False),
        (rule("*", "*", ("*",)), Attributes("get", path="/metrics"), False),
        ({"verbs": ["*"], "nonResourceURLs": ["*"]}, Attributes("get", resource="pods"), False),
    ],
)
def test_rules(made, asked, allowed):
    assert rule_allows(_wire.convert(PolicyRule, made), asked) is allowed


def test_bindings_and_namespaces():
    cluster = Cluster(
        role("reader", rule("get", "pods")),
        bind("reader", TO_ALICE, ns="a"),
        role("local", rule("get", "secrets"), ns="a"),
        bind("local", TO_TEAM, ns="a", kind="Role"),
        bind("reader", TO_TEAM),
    )
    assert cluster.allows(ALICE, "get", "pods", ns="a")
    assert not cluster.allows(ALICE, "get", "pods", ns="b")
    assert not cluster.allows(ALICE, "get", "pods")
    assert cluster.allows(BOB, "get", "secrets", ns="a")
    assert not cluster.allows(BOB, "get", "secrets", ns="b")
    assert not cluster.allows(ALICE, "get", "secrets", ns="a")
    assert cluster.allows(BOB, "get", "pods", ns="anywhere")


def test_service_accounts_and_masters():
    robot = service_account("a", "robot")
    cluster = Cluster(
        role("reader", rule("get", "pods")),
        bind("reader", {"kind": "ServiceAccount", "namespace": "a", "name": "robot"}),
    )
    assert cluster.allows(robot, "get", "pods")
    assert not cluster.allows(service_account("b", "robot"), "get", "pods")
    assert cluster.allows(ADMIN, "delete", "nodes")
    assert not cluster.allows(ANONYMOUS, "get", "pods")


def test_a_grant_and_its_removal_hold_at_once():
    cluster = Cluster(role("reader", rule("get", "pods")))
    assert not cluster.allows(ALICE, "get", "pods")
    cluster.add(bind("reader", TO_ALICE))
    assert cluster.allows(ALICE, "get", "pods")
    del cluster.objects[-1]
    cluster.authorizer.changed()
    assert not cluster.allows(ALICE, "get", "pods")


def test_a_binding_to_a_missing_role_grants_nothing():
    assert not Cluster(bind("nothing", TO_ALICE)).allows(ALICE, "get", "pods")


def test_aggregation_is_transitive_and_survives_circles():
    cluster = Cluster(
        role("top", gathers={"into": "top"}),
        role("middle", gathers={"into": "middle"}, labels={"into": "top"}),
        role("leaf", rule("get", "pods"), labels={"into": "middle"}),
        role("circle", gathers={"into": "top"}, labels={"into": "top"}),
        bind("top", TO_ALICE),
    )
    assert cluster.allows(ALICE, "get", "pods")
    cluster.add(role("later", rule("get", "secrets"), labels={"into": "middle"}))
    assert cluster.allows(ALICE, "get", "secrets")


def test_default_roles():
    cluster = Cluster(*default_objects(), bind("admin", TO_ALICE, ns="a"), bind("view", TO_TEAM, ns="a"))
    assert cluster.allows(ALICE, "create", "rolebindings", group="rbac.authorization.k8s.io", ns="a")
    assert cluster.allows(ALICE, "get", "secrets", ns="a")
    assert cluster.allows(ALICE, "create", "deployments", group="apps", ns="a")
    assert not cluster.allows(ALICE, "create", "deployments", group="apps", ns="b")
    assert cluster.allows(BOB, "get", "pods/log", ns="a")
    assert not cluster.allows(BOB, "get", "secrets", ns="a")
    assert not cluster.allows(BOB, "create", "pods", ns="a")
    anybody = User("x", groups=("system:authenticated",))
    assert cluster.allows(anybody, "get", "", path="/apis/apps")
    assert cluster.allows(anybody, "create", "selfsubjectaccessreviews", group="authorization.k8s.io")
    assert cluster.allows(ANONYMOUS, "get", "", path="/version")
    assert not cluster.allows(ANONYMOUS, "get", "", path="/apis")


class TestEscalation:
    def cluster(self):
        return Cluster(
            role("pods", rule("get list", "pods")),
            role("all", rule("*", "*", ("*",))),
            role("editor", rule("create update", "roles rolebindings clusterroles", ("rbac.authorization.k8s.io",))),
            bind("pods", TO_ALICE, ns="a"),
            bind("editor", TO_ALICE),
        )

    def check(self, cluster, obj):
        escalation.check(ALICE, KINDS[obj["kind"]], obj, cluster.authorizer)

    def test_what_is_held_may_be_granted(self):
        cluster = self.cluster()
        self.check(cluster, role("x", rule("get", "pods"), ns="a"))
        self.check(cluster, bind("pods", {"kind": "User", "name": "carol"}, ns="a"))

    @pytest.mark.parametrize(
        "obj",
        [
            role("x", rule("get", "pods"), ns="b"),
            role("x", rule("delete", "pods"), ns="a"),
            role("x", rule("get", "secrets"), ns="a"),
            role("x", rule("*", "pods"), ns="a"),
            role("x", rule("get", "*"), ns="a"),
            role("x", rule("get", "pods", ("*",)), ns="a"),
            role("x", rule("get", "pods")),
            role("x", {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}),
            bind("all", TO_ALICE, ns="a"),
            bind("pods", TO_ALICE),
        ],
        ids=str,
    )
    def test_what_is_not_held_may_not(self, obj):
        with pytest.raises(Forbidden, match="attempting to grant RBAC permissions not currently held"):
            self.check(self.cluster(), obj)

    def test_escalate_and_bind(self):
        cluster = self.cluster()
        rights = rule("escalate bind", "roles clusterroles", ("rbac.authorization.k8s.io",))
        cluster.add(role("trusted", rights), bind("trusted", TO_ALICE))
        self.check(cluster, role("x", rule("*", "*", ("*",)), ns="a"))
        self.check(cluster, bind("all", TO_ALICE))

    def test_a_missing_role_is_named(self):
        with pytest.raises(NotFound, match='"nothing" not found'):
            self.check(self.cluster(), bind("nothing", TO_ALICE, ns="a"))

    def test_masters_may_all(self):
        escalation.check(ADMIN, KINDS["ClusterRole"], role("x", rule("*", "*", ("*",))), self.cluster().authorizer)


def test_rules_for_certain_names_do_not_count_for_others_whatever_was_asked_before():
    cluster = Cluster(role("some", rule("get", "pods", names=("a", ""))), bind("some", TO_ALICE))
    for _ in range(2):
        assert cluster.allows(ALICE, "get", "pods", ns="n", name="a")
        assert cluster.allows(ALICE, "get", "pods", ns="n")
        assert not cluster.allows(ALICE, "get", "pods", ns="n", name="b")
    cluster.add(role("all", rule("get", "pods")), bind("all", TO_ALICE))
    assert cluster.allows(ALICE, "get", "pods", ns="n", name="b")
    assert cluster.allows(ALICE, "get", "pods", ns="n", name="never seen")
    assert not cluster.allows(ALICE, "get", "pods/log", ns="n", name="b")
    assert not cluster.allows(ALICE, "delete", "pods", ns="n", name="a")
    cluster.objects = cluster.objects[:2]
    cluster.authorizer.changed()
    assert not cluster.allows(ALICE, "get", "pods", ns="n", name="b")
    assert cluster.allows(ALICE, "get", "pods", ns="n", name="a")
