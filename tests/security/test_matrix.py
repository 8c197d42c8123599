"""Every route of the platform times every kind of sender, against the table in `rules.py`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import security_routes as routes
import security_rules as rules
from security_world import HOME, PEOPLE, ROLES, call

from headrace.testing import eventually

if TYPE_CHECKING:
    from security_routes import Route
    from security_world import Answer, World

SPEC: dict[str, Any] = {
    "pipelineInfo": {"name": "greet"},
    "schemaVersion": "2.1.0",
    "sdkVersion": "kfp-2.16.1",
    "root": {"dag": {"tasks": {"say": {"taskInfo": {"name": "say"}, "componentRef": {"name": "comp-say"}}}}},
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "python:3.11", "command": ["true"]}}}},
}
DENIED = {"401", "403", "login"}
CONTRIBUTOR = {"kind": "User", "name": "new@example.com"}
BINDING = {"user": CONTRIBUTOR, "referredNamespace": HOME, "RoleRef": {"kind": "ClusterRole", "name": "edit"}}
HERE = [{"key": {"type": "NAMESPACE", "id": HOME}, "relationship": "OWNER"}]
V1_SPEC = {"pipeline_manifest": json.dumps(SPEC)}
RUN = {"display_name": "of the matrix", "pipeline_spec": SPEC}
BODIES: dict[str, Any] = {
    "POST /kfam/v1/bindings": BINDING,
    "DELETE /kfam/v1/bindings": BINDING,
    "POST /kfam/v1/profiles": {"metadata": {"name": "p"}, "spec": {"owner": {"kind": "User", "name": "{me}"}}},
    "POST /api/workgroup/create": {"namespace": "{role}-own"},
    "POST /api/workgroup/add-contributor/{namespace}": {"contributor": "new@example.com"},
    "DELETE /api/workgroup/remove-contributor/{namespace}": {"contributor": "new@example.com"},
    "PUT /api/identity/me/password": {"old": "a", "new": "b"},
    "POST /api/identity/tokens": {"name": "t", "scopes": ["read"]},
    "POST /apis/v2beta1/experiments": {"display_name": "again", "namespace": HOME},
    "POST /apis/v2beta1/pipelines": {"display_name": "again", "namespace": HOME},
    "POST /apis/v2beta1/pipelines/create": {
        "pipeline": {"display_name": "other", "namespace": HOME},
        "pipeline_version": {"display_name": "v", "package_url": {"pipeline_url": "http://127.0.0.1:1/p.yaml"}},
    },
    "POST /apis/v2beta1/artifacts": {"artifact": {"name": "a", "type": "Dataset", "namespace": HOME}},
    "POST /apis/v2beta1/runs": RUN | {"experiment_id": "{experiment}"},
    "POST /apis/v2beta1/recurringruns": RUN
    | {
        "experiment_id": "{experiment}",
        "trigger": {"cron_schedule": {"cron": "0 0 1 1 *"}},
        "mode": "ENABLE",
        "max_concurrency": 1,
    },
    "POST /apis/v2beta1/runs/{run}/tasks/{task}:report": {"attempt": 0, "state": "SUCCEEDED"},
    "POST /apis/v1beta1/experiments": {"name": "old", "resource_references": HERE},
    "POST /apis/v1beta1/pipelines": {
        "name": "old",
        "resource_references": HERE,
        "url": {"pipeline_url": "http://127.0.0.1:1/p.yaml"},
    },
    "POST /apis/v1beta1/pipeline_versions": {
        "name": "old",
        "package_url": {"pipeline_url": "http://127.0.0.1:1/p.yaml"},
        "resource_references": [{"key": {"type": "PIPELINE", "id": "{pipeline}"}, "relationship": "OWNER"}],
    },
    "POST /apis/v1beta1/runs": {"name": "old", "pipeline_spec": V1_SPEC, "resource_references": HERE},
    "POST /apis/v1beta1/jobs": {
        "name": "old",
        "pipeline_spec": V1_SPEC,
        "resource_references": [{"key": {"type": "EXPERIMENT", "id": "{experiment}"}, "relationship": "OWNER"}],
        "trigger": {"cron_schedule": {"cron": "0 0 1 1 *"}},
        "max_concurrency": 1,
    },
    "POST /apis/v1beta1/runs/{id}:reportMetrics": {"metrics": [{"name": "m", "node_id": "n", "number_value": 1.0}]},
}
"""What must be said so that the request is judged by who sends it."""
OBJECT = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "resourceVersion": "1"}}
CHANGED = OBJECT | {"spec": {"replicas": 2}}
CHANGE = {"name": "web", "before": json.dumps(OBJECT), "after": json.dumps(CHANGED)}
FORMS: dict[str, Any] = {
    "/workloads#apply": CHANGE,
    "/workloads#check": CHANGE,
    "/workloads#delete": {"name": "web"},
    "/workloads#restart": {"name": "web"},
    "/workloads#scale": {"name": "web", "replicas": "2"},
    **{f"/experiments#{action}": {"experiment": "{experiment}"} for action in ("archive", "restore")},
    "/experiments#make": {"name": "by {role}"},
    **{f"/schedules#{action}": {"schedule": "{job}"} for action in ("delete", "disable", "enable")},
    **{f"/runs#{action}": {"run": "{run}"} for action in ("archive", "delete", "retry", "terminate", "unarchive")},
    "/pipelines/{id}#delete-version": {"version": "{version}"},
    "/pipelines/{id}#edit": {"name": "by {role}"},
    "/pipelines/{id}#edit-version": {"version": "{version}", "name": "by {role}"},
    "/profiles/{profile}#add": {"user": "new@example.com", "role": "edit"},
    "/profiles/{profile}#remove": {"user": "new@example.com", "role": "edit"},
    "/profiles/{profile}#delete": {"typed": "other"},
    "/account#make": {"name": "t", "days": "10", "scope": "read"},
}
QUERIES = {
    "GET /apis/v2beta1/tasks": "run_id={run}",
    "GET /apis/v2beta1/auth": f"namespace={HOME}&resources=VIEWERS&verb=GET",
    "GET /apis/v1beta1/auth": f"namespace={HOME}&resources=VIEWERS&verb=GET",
    "POST /apis/v2beta1/pipelines/upload_version": "pipelineid={pipeline}",
    "POST /apis/v1beta1/pipelines/upload_version": "pipelineid={pipeline}",
    "GET /apis/v1beta1/pipeline_versions": "resource_key.type=PIPELINE&resource_key.id={pipeline}",
    "GET /static/{file}": "",
    **{
        f"POST /workloads#{action}": f"ns={HOME}&kind=deployments"
        for action in ("apply", "check", "delete", "restart", "scale")
    },
}
IDENTS = {
    "experiments": "experiment",
    "pipelines": "pipeline",
    "runs": "run",
    "recurringruns": "job",
    "jobs": "job",
    "artifacts": "artifact",
}
EXAMPLES = {
    "namespace": HOME,
    "profile": HOME,
    "model": "no-model",
    "node": "say",
    "email": "nobody@example.com",
    "name": "no-such",
}


async def sample(world: World) -> None:
    """One of everything that paths name, made by the owner."""

    async def make(path: str, body: Any) -> Any:
        answer = await world.ask("owner", "POST", path, f"namespace={HOME}", body)
        assert answer.status == 200, answer
        return answer.json()

    ids = world.ids
    ids |= EXAMPLES
    ids["experiment"] = (await make("/apis/v2beta1/experiments", {"display_name": "e", "namespace": HOME}))[
        "experiment_id"
    ]
    boundary = b"--b\r\ncontent-disposition: form-data; name=uploadfile; filename=p.json\r\n\r\n%b\r\n--b--\r\n"
    headers = [*world.credentials["owner"], (b"content-type", b"multipart/form-data; boundary=b"), (b"host", b"x")]
    upload = boundary % json.dumps(SPEC).encode()
    query = f"namespace={HOME}&name=greet"
    answer = await call(world.gateway, "POST", "/apis/v2beta1/pipelines/upload", query, headers, body=upload)
    assert answer.status == 200, answer
    ids["pipeline"] = answer.json()["pipeline_id"]
    found = await world.ask("owner", "GET", f"/apis/v2beta1/pipelines/{ids['pipeline']}/versions")
    ids["version"] = found.json()["pipeline_versions"][0]["pipeline_version_id"]
    ids["run"] = (await make("/apis/v2beta1/runs", RUN | {"experiment_id": ids["experiment"]}))["run_id"]
    body = named(world, "owner", BODIES["POST /apis/v2beta1/recurringruns"])
    ids["job"] = (await make("/apis/v2beta1/recurringruns", body))["recurring_run_id"]
    ids["artifact"] = (await make("/apis/v2beta1/artifacts", BODIES["POST /apis/v2beta1/artifacts"]))["artifact_id"]

    async def begun() -> bool:
        found = await world.ask("owner", "GET", f"/apis/v2beta1/runs/{ids['run']}/tasks")
        tasks = found.json().get("tasks") or [{}]
        ids["task"] = tasks[0].get("task_id", "")
        return bool(ids["task"])

    await eventually(begun)


def named(world: World, role: str, given: Any) -> Any:
    """With the names of this world in it."""
    if given is None:
        return None
    text = json.dumps(given) if not isinstance(given, str) else given
    for name, value in (world.ids | {"role": role, "me": PEOPLE.get(role, role)}).items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text) if not isinstance(given, str) else text


def path_of(world: World, route: Route) -> str:
    path = route.path.partition("#")[0]
    path = re.sub(r"/(\w+)/\{id\}", lambda m: f"/{m[1]}/{{{IDENTS.get(m[1], 'name')}}}", path)
    path = path.replace("/names/{name}", "/names/greet").replace("/pipelines/{name}", "/pipelines/greet")
    path = path.replace("/{file}", "/no-such.js")
    return re.sub(r"\{\w+\}", "no-such", world.fill(path))


def key_of(route: Route) -> str:
    return f"{route.method} {route.path.replace('/pipeline/apis/', '/apis/')}"


def table(text: str) -> dict[str, str]:
    rows = [line.split(None, 2) for line in text.strip().splitlines()]
    return {f"{method} {path}": rule for method, path, rule in rows}


def holds(expected: str, answer: Answer) -> bool:
    match expected:
        case "ok":
            return answer.status < 400 and answer.outcome != "login"
        case "in":
            return answer.outcome not in DENIED and answer.status not in {500, 501}
        case "4xx":
            return 400 <= answer.status < 500
        case _:
            return answer.outcome == expected


async def test_every_route_of_the_gateway_answers_each_kind_of_sender_as_the_table_says(world: World) -> None:
    await sample(world)
    expected = table(rules.GATEWAY)
    found = sorted(set(routes.of_gateway(world.mounts, world.site.pages)), key=_order)
    missing = sorted({key_of(route) for route in found} - set(expected))
    assert not missing, "routes without a rule in tests/security/rules.py:\n" + "\n".join(missing)
    wrong = []
    # First everybody who must be refused, while there is everything to be refused; then what changes something.
    for refused in (True, False):
        for route in found:
            rule = expected[key_of(route)]
            for role, outcome in zip(ROLES, rules.OUTCOMES[rule], strict=True):
                if (outcome in DENIED) is refused:
                    answer = await _ask(world, role, route)
                    if not holds(outcome, answer):
                        wrong.append(
                            f"{route}: {role} got {answer.outcome}, not {outcome!r} ({rule}): {answer.body[:120]!r}"
                        )
    assert not wrong, f"{len(wrong)} answers differ from the table:\n" + "\n".join(wrong)


def test_the_table_names_no_route_that_is_gone(world: World) -> None:
    found = {key_of(route) for route in routes.of_gateway(world.mounts, world.site.pages)}
    assert set(table(rules.GATEWAY)) <= found


def _order(route: Route) -> tuple[int, Route]:
    """Looking first; what ends sessions last."""
    last = route.path.endswith(("/logout", "/sign_out"))
    return (3 if last else {"GET": 0, "DELETE": 2}.get(route.method, 1), route)


async def _ask(world: World, role: str, route: Route) -> Answer:
    key = key_of(route)
    query = named(world, role, QUERIES.get(key, f"namespace={HOME}&ns={HOME}"))
    body = named(world, role, BODIES.get(key, {} if route.method != "GET" else None))
    page = "text/html" if not re.match(r"/(api|apis|kfam|pipeline/apis|serving)/", route.path) else ""
    if route.kind == "action":
        fields = {"action": route.path.partition("#")[2], **named(world, role, FORMS.get(route.path, {}))}
        body = urlencode(fields).encode()
    return await world.ask(role, route.method, path_of(world, route), query, body, accept=page)


READ = {"get", "list", "watch"}
KINDS = ("viewer", "editor", "owner")


def verbs_of(cell: str) -> set[str]:
    """A cell of the table as verbs."""
    base, _, more = cell.partition("+")
    base, _, less = base.partition("-") if base != "-" else ("", "", "")
    verbs = {"rw": set(routes.VERBS), "r": READ, "": set()}.get(base, {base})
    return (verbs | set(more.split(","))) - set(less.split(","))


def allowed(row: dict[str, list[str]], resource: str, role: str, verb: str) -> bool:
    if resource in rules.SELF.split() or role == "admin":
        return (resource, verb) != ("namespaces", "deletecollection")  # it would hold namespaces that nobody may delete
    return role in KINDS and resource in row and verb in verbs_of(row[resource][KINDS.index(role)])


async def test_every_verb_of_every_resource_is_for_those_whom_the_table_names(world: World) -> None:
    row = {cells[0]: cells[1:] for line in rules.API.strip().splitlines()[1:] if (cells := line.split())}
    found = sorted(routes.of_api(world.api), key=lambda each: (each[0].method.startswith("delete"), each[0], each[2]))
    named_here = set(row) | set(rules.SELF.split()) | set(rules.ADMINISTRATORS.split())
    assert {route.path for route, _, _ in found} == named_here, "resources and rules in tests/security/rules.py differ"
    assert len(row) + len(rules.SELF.split()) + len(rules.ADMINISTRATORS.split()) == len(named_here), (
        "a resource is in two places"
    )
    wrong = []
    for refused in (True, False):
        for route, resource, version in found:
            for role in ROLES:
                may = allowed(row, route.path, role, route.method)
                if may is not refused:
                    answer = await _ask_api(world, role, route, resource, version)
                    outcome = "401" if role == "anonymous" else "in" if may else "403"
                    if not holds(outcome, answer):
                        wrong.append(f"{route} ({version}): {role} got {answer.outcome}, not {outcome}")
    assert not wrong, f"{len(wrong)} answers differ from the table:\n" + "\n".join(wrong)


async def _ask_api(world: World, role: str, route: Route, resource: dict[str, Any], version: str) -> Answer:
    plural, _, part = resource["name"].partition("/")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    where = f"{root}/namespaces/{HOME}" if resource["namespaced"] else root
    path = f"{where}/{plural}"
    if part or route.method not in {"list", "watch", "create", "deletecollection"}:
        path += f"/{HOME if plural == 'namespaces' else 'no-such'}"
    method = routes.VERBS[route.method]
    query = "watch=1" if route.method == "watch" else "dryRun=All" if method != "GET" else ""
    body = None if method in {"GET", "DELETE"} else {}
    return await world.ask_api(role, method, f"{path}/{part}" if part else path, query, body)


async def test_every_document_of_the_api_server_is_for_those_whom_the_table_names(world: World) -> None:
    wrong = []
    for route in routes.of_documents(world.api):
        below = f"{route.path}/".startswith(("/api/", "/apis/"))
        rule = "known" if below else next((r for r, paths in rules.DOCUMENTS.items() if route.path in paths), "")
        assert rule, f"{route.path} has no rule in tests/security/rules.py"
        for role in ROLES:
            answer = await world.ask_api(role, "GET", route.path)
            nobody = {"open": "ok", "known": "401", "manage": "401"}[rule]
            others = "403" if rule == "manage" and role != "admin" else "ok"
            outcome = nobody if role == "anonymous" else others
            if not holds(outcome, answer):
                wrong.append(f"{route}: {role} got {answer.outcome}, not {outcome}")
    assert not wrong, "\n".join(wrong)


async def test_every_operation_of_the_object_store_is_for_those_whom_the_table_names(world: World) -> None:
    expected = table(rules.STORE)
    found = {f"{route.method} {route.path}": route for route in routes.of_objectstore()}
    assert set(found) == set(expected), "operations and rules in tests/security/rules.py differ"
    wrong = []
    for name in sorted(found, key=lambda each: (each.startswith("DELETE"), each)):
        for role, outcome in zip(ROLES, rules.STORE_OUTCOMES[expected[name]], strict=True):
            answer = await _ask_store(world, role, found[name])
            if outcome == "each":
                good = answer.status == 200 and b"<Code>AccessDenied</Code>" in answer.body
            else:
                good = holds(outcome, answer)
            if not good:
                wrong.append(f"{name}: {role} got {answer.outcome}, not {outcome}: {answer.body[:160]!r}")
    assert not wrong, "\n".join(wrong)


async def _ask_store(world: World, role: str, route: Route) -> Answer:
    bucket = "matrix" if route.method in {"PUT", "DELETE"} else "mlpipeline"
    path, _, part = route.path.partition("?")
    key = f"artifacts/{HOME}/a.txt"
    path = path.replace("/{bucket}/{key}", f"/mlpipeline/{key}").replace("{bucket}", bucket)
    sub, _, copy = part.partition("+")
    copied = part == "copy" or copy == "copy"
    words = {"": "", "copy": "", "uploadId": "partNumber=1&uploadId=none"}.get(sub, f"{sub}=")
    if route.path == "/{bucket}":
        words = f"prefix=artifacts%2F{HOME}%2F" if route.method == "GET" else ""
    if sub == "uploads" and route.path.startswith("/{bucket}?"):
        words = f"prefix=artifacts%2F{HOME}%2F&uploads="
    body = f"<Delete><Object><Key>{key}</Key></Object></Delete>".encode() if sub == "delete" else b"x"
    headers = {"x-amz-copy-source": f"/mlpipeline/{key}"} if copied else {}
    if sub == "delete":
        headers["content-md5"] = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    return await world.ask_store(
        role, route.method, path, words, b"" if route.method in {"GET", "HEAD"} else body, more=headers
    )
