"""KFAM and the central dashboard's workgroups: what upstream's clients send, and who is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.api.core import Namespace
from headrace.api.errors import NotFound
from headrace.api.rbac import RoleBinding
from headrace.components.profiles.types import Profile
from headrace.testing import eventually

if TYPE_CHECKING:
    from .conftest import World

NS = "kubeflow-user-example-com"
OWNER, ADA, BOB = "user@example.com", "ada@example.com", "bob@example.com"
BOSS = ("system:masters",)


def binding(user: str, role: str = "edit", namespace: str = NS) -> dict:
    return {
        "user": {"kind": "User", "name": user},
        "referredNamespace": namespace,
        "RoleRef": {"kind": "ClusterRole", "name": role},
    }


async def test_a_contributor_comes_and_goes(cluster: World) -> None:
    assert await cluster.ask(OWNER, "POST", "/kfam/v1/bindings", binding(ADA)) == (200, "")
    made = await cluster.client.get(RoleBinding, "user-ada-example-com-clusterrole-edit", NS)
    assert made.metadata.annotations == {"user": ADA, "role": "edit"}
    assert made.role_ref.name == "kubeflow-edit"
    status, body = await cluster.ask(OWNER, "GET", f"/kfam/v1/bindings?namespace={NS}&role=edit")
    assert status == 200
    assert body == {
        "bindings": [
            {
                "user": {"kind": "User", "name": ADA, "apiGroup": ""},
                "referredNamespace": NS,
                "RoleRef": {"kind": "ClusterRole", "name": "edit", "apiGroup": ""},
            }
        ]
    }
    assert (await cluster.ask(OWNER, "POST", "/kfam/v1/bindings", binding(ADA)))[0] == 409
    _, mine = await cluster.ask(ADA, "GET", f"/kfam/v1/bindings?user={ADA}")
    assert [b["referredNamespace"] for b in mine["bindings"]] == [NS]
    assert (await cluster.ask(OWNER, "DELETE", "/kfam/v1/bindings", binding(ADA)))[0] == 200
    assert (await cluster.ask(OWNER, "DELETE", "/kfam/v1/bindings", binding(ADA)))[0] == 404


@pytest.mark.parametrize(("method", "body"), [("POST", binding(BOB)), ("DELETE", binding(OWNER, "admin"))])
async def test_only_the_owner_or_an_administrator_changes_bindings(cluster: World, method: str, body: dict) -> None:
    await cluster.ask(OWNER, "POST", "/kfam/v1/bindings", binding(ADA))
    for who in (ADA, BOB, ""):
        status, answer = await cluster.ask(who, method, "/kfam/v1/bindings", body)
        assert status == 403
        assert "owner" in answer["error"]
    if method == "POST":
        assert (await cluster.ask(BOB, method, "/kfam/v1/bindings", body, BOSS))[0] == 200


async def test_a_stranger_sees_no_bindings(cluster: World) -> None:
    await cluster.ask(OWNER, "POST", "/kfam/v1/bindings", binding(ADA))
    for query in ("", f"?namespace={NS}", f"?user={ADA}", "?namespace=kube-system"):
        assert await cluster.ask(BOB, "GET", f"/kfam/v1/bindings{query}") == (200, {"bindings": []})
    _, everything = await cluster.ask("root@example.com", "GET", "/kfam/v1/bindings", groups=BOSS)
    assert {b["user"]["name"] for b in everything["bindings"]} == {OWNER, ADA}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"user": {"name": ""}, "referredNamespace": NS, "RoleRef": {"name": "edit"}},
        binding(ADA, "cluster-admin"),
        binding(ADA, ""),
        {"user": "ada", "referredNamespace": NS},
    ],
)
async def test_a_binding_that_is_none_is_refused(cluster: World, body: object) -> None:
    status, answer = await cluster.ask("root@example.com", "POST", "/kfam/v1/bindings", body, BOSS)
    assert status in {400, 404}
    assert answer["error"]


async def test_one_makes_a_profile_for_oneself(cluster: World) -> None:
    mine = {"metadata": {"name": "ada"}, "spec": {"owner": {"kind": "User", "name": ADA}}}
    assert (await cluster.ask(BOB, "POST", "/kfam/v1/profiles", mine))[0] == 403
    rich = {**mine, "spec": {**mine["spec"], "resourceQuotaSpec": {"hard": {"cpu": "100"}}}}
    assert (await cluster.ask(ADA, "POST", "/kfam/v1/profiles", rich))[0] == 403
    assert (await cluster.ask(ADA, "POST", "/kfam/v1/profiles", mine))[0] == 200
    await eventually(lambda: cluster.client.get(Namespace, "ada"))
    assert (await cluster.ask(BOB, "DELETE", "/kfam/v1/profiles/ada"))[0] == 403
    assert (await cluster.ask(BOB, "DELETE", "/kfam/v1/profiles/none"))[0] == 403
    assert (await cluster.ask(ADA, "DELETE", "/kfam/v1/profiles/ada"))[0] == 200

    async def gone() -> bool:
        try:
            await cluster.client.get(Profile, "ada")
        except NotFound:
            return True
        return False

    await eventually(gone)


async def test_who_administers_the_cluster(cluster: World) -> None:
    ask = cluster.ask
    assert await ask(OWNER, "GET", f"/kfam/v1/role/clusteradmin?user={OWNER}") == (200, False)
    assert await ask("root", "GET", "/kfam/v1/role/clusteradmin?user=root", groups=BOSS) == (200, True)
    assert await ask(OWNER, "GET", "/kfam/v1/role/clusteradmin?user=root") == (200, False)
    assert await ask(OWNER, "GET", "/kfam/v1/role/clusteradmin") == (200, False)
    assert await ask(OWNER, "GET", "/kfam/") == (200, "Hello World!")
    assert (await ask(OWNER, "GET", "/kfam/v1/nothing"))[0] == 404


async def test_workgroups_of_the_central_dashboard(cluster: World) -> None:
    ask = cluster.ask
    _, exists = await ask(ADA, "GET", "/api/workgroup/exists")
    assert exists == {"hasAuth": True, "user": "ada", "hasWorkgroup": False, "registrationFlowAllowed": True}
    assert (await ask(ADA, "POST", "/api/workgroup/create", {"namespace": "other", "user": BOB}))[0] == 403
    assert await ask(ADA, "POST", "/api/workgroup/create", {}) == (200, {"message": "Created namespace ada"})

    async def owns() -> bool:
        return (await ask(ADA, "GET", "/api/workgroup/exists"))[1]["hasWorkgroup"]

    await eventually(owns)
    _, info = await ask(ADA, "GET", "/api/workgroup/env-info")
    assert info["user"] == ADA
    assert info["isClusterAdmin"] is False
    assert info["namespaces"] == [{"user": ADA, "namespace": "ada", "role": "owner"}]
    assert await ask(ADA, "POST", "/api/workgroup/add-contributor/ada", {"contributor": BOB}) == (200, [BOB])
    assert (await ask(BOB, "POST", "/api/workgroup/add-contributor/ada", {"contributor": "c@d.org"}))[0] == 403
    assert (await ask(ADA, "POST", "/api/workgroup/add-contributor/ada", {"contributor": "bob"}))[0] == 400
    assert (await ask(ADA, "POST", "/api/workgroup/add-contributor/ada", {}))[0] == 400
    assert await ask(BOB, "GET", "/api/workgroup/get-contributors/ada") == (200, [BOB])
    assert await ask("c@d.org", "GET", "/api/workgroup/get-contributors/ada") == (200, [])
    assert await ask(ADA, "GET", "/api/workgroup/get-all-namespaces") == (200, [["ada", ADA, BOB]])
    assert await ask(ADA, "DELETE", "/api/workgroup/remove-contributor/ada", {"contributor": BOB}) == (200, [])
    assert (await ask(BOB, "DELETE", "/api/workgroup/nuke-self"))[0] == 403
    assert (await ask(ADA, "DELETE", "/api/workgroup/nuke-self"))[0] == 200
