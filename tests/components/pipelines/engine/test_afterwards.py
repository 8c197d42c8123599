"""What is done after runs have ended: people are told, objects go. Against real HTTP and SMTP servers."""

import asyncio
import contextlib
import email
import hashlib
import hmac
import json
import socket

import pytest
import yaml
from aiohttp import web
from pipelines_harness import HOME

from headrace.api.core import ConfigMap, Event, PersistentVolumeClaim, Secret
from headrace.api.meta import ObjectMeta
from headrace.components.pipelines.store.followups import FollowUps
from headrace.testing.eventually import eventually

PIPELINE = {
    "pipelineInfo": {"name": "nightly"},
    "root": {"dag": {"tasks": {"say": {"taskInfo": {"name": "say"}, "componentRef": {"name": "comp-say"}}}}},
    "components": {"comp-say": {"executorLabel": "exec-say"}},
    "deploymentSpec": {"executors": {"exec-say": {"container": {"image": "alpine", "command": ["true"]}}}},
}


class Hook:
    """A receiver; `answers` are the states that it gives first, then 204."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0):
        async def receive(request: web.Request) -> web.Response:
            self.got.append((dict(request.headers), await request.read()))
            return web.Response(status=self.answers.pop(0) if self.answers else 204)

        app = web.Application()
        app.router.add_post("/hook", receive)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_port=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            await runner.cleanup()


async def put(lab, name: str, namespace: str = HOME, **data: str) -> None:
    await lab.api.cluster.client.apply(ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data))


async def rules(lab, *found: dict) -> None:
    await put(lab, "pipeline-notifications", **{"notifications.yaml": yaml.safe_dump(list(found))})


async def allow(lab, hosts: str) -> None:
    await put(lab, "pipeline-notifications", "kubeflow", **{"allowed-hosts": hosts})


async def outbox_is_empty(lab, run_id: str) -> None:
    async def empty() -> bool:
        return not await FollowUps(lab.api.database).of_run(run_id)

    await eventually(empty, timeout=30)


async def told(lab, reason: str) -> str:
    async def found() -> str:
        events = (await lab.api.cluster.client.list(Event, HOME)).items
        return next((e.message for e in events if e.reason == reason), "")

    return await eventually(found, timeout=30)


async def test_a_webhook_gets_a_signed_message_again_until_it_takes_it(lab):
    await lab.api.cluster.client.apply(
        Secret(metadata=ObjectMeta(name="hook-key", namespace=HOME), string_data={"key": "s3cret"})
    )
    async with Hook(500).serve() as hook:
        await allow(lab, f"127.0.0.1:{hook.port}")
        webhook = {"url": hook.url, "secret": "hook-key"}
        await rules(
            lab,
            {"name": "ops", "states": ["succeeded"], "pipelines": ["night*"], "webhook": webhook},
            {"name": "elsewhere", "states": ["succeeded"], "pipelines": ["day*"], "webhook": webhook},
        )
        run_id = await lab.start(PIPELINE)
        assert (await lab.ended(run_id)).state == "SUCCEEDED"
        await outbox_is_empty(lab, run_id)

    [first, second] = hook.got
    assert first[1] == second[1]
    headers, body = second
    assert headers["X-Headrace-Signature-256"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert headers["X-Headrace-Delivery"] == message["id"]
    assert (message["event"], message["namespace"]) == ("run.succeeded", HOME)
    assert message["run"]["run_id"] == run_id
    assert "answered 500" in await told(lab, "NotificationFailed")


async def test_a_message_survives_a_restart_and_the_receivers_absence_and_the_runs_deletion(lab):
    hook = Hook()
    with socket.socket() as reserved:  # the port stays ours: nobody listens on it until the receiver comes
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        await allow(lab, "127.0.0.1")
        await rules(lab, {"name": "ops", "states": ["succeeded"], "webhook": {"url": f"http://127.0.0.1:{port}/hook"}})
        run_id = await lab.start(PIPELINE)
        await lab.ended(run_id)
        assert "cannot be reached" in await told(lab, "NotificationFailed")
        await lab.restart_engine()
        await lab.api.ok("DELETE", f"/runs/{run_id}")
        async with hook.serve(port):
            await outbox_is_empty(lab, run_id)

    assert len(hook.got) == 1


async def test_what_leads_back_to_this_machine_is_refused_in_words(lab):
    async with Hook().serve() as hook:
        await rules(lab, {"name": "ops", "states": ["succeeded"], "webhook": {"url": hook.url}})
        run_id = await lab.start(PIPELINE)
        await lab.ended(run_id)
        assert "127.0.0.1 leads back to the platform's own machine" in await told(lab, "NotificationGivenUp")
        await outbox_is_empty(lab, run_id)

    assert hook.got == []


async def test_a_rule_that_is_wrong_is_an_event_of_its_config_map(lab):
    await rules(lab, {"name": "ops"})
    await lab.ended(await lab.start(PIPELINE))
    assert "give either webhook or email" in await told(lab, "NotificationRuleInvalid")


class Mailbox:
    """What a mail server keeps of each mail."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content)
        assert envelope.rcpt_tos == ["ops@example.com", "you@example.com"]
        return "250 taken"


async def test_a_mail_goes_through_the_server_of_the_secret(lab):
    from aiosmtpd.smtp import SMTP, AuthResult

    box = Mailbox()
    logins = []

    def login(server, session, envelope, mechanism, data):
        logins.append((data.login, data.password))
        return AuthResult(success=True)

    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(box, authenticator=login, auth_require_tls=False), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    settings = {"host": "127.0.0.1", "port": str(port), "tls": "none", "from": "Mill <mill@example.com>"}
    settings |= {"username": "miller", "password": "wheel"}
    await lab.api.cluster.client.apply(Secret(metadata=ObjectMeta(name="smtp", namespace=HOME), string_data=settings))
    await allow(lab, f"127.0.0.1:{port}")
    await rules(lab, {"name": "ops", "email": {"to": ["ops@example.com", "you@example.com"], "secret": "smtp"}})
    failing = json.loads(json.dumps(PIPELINE).replace('"true"', '"false"'))
    try:
        run_id = await lab.start(failing)
        assert (await lab.ended(run_id)).state == "FAILED"
        await outbox_is_empty(lab, run_id)
    finally:
        server.close()

    [raw] = box.mails
    mail = email.message_from_bytes(raw)
    assert mail["Subject"] == "Run 'a run' FAILED"
    assert mail["To"] == "ops@example.com, you@example.com"
    assert mail["Message-ID"].endswith("@example.com>")
    assert "Reason: Task 'say'" in mail.get_payload()
    assert logins == [(b"miller", b"wheel")]


def configured(**config: object) -> dict:
    return {"pipeline_spec": PIPELINE, "platform_spec": {"platforms": {"kubernetes": {"pipelineConfig": config}}}}


async def test_the_objects_of_a_run_go_when_their_time_is_over_and_its_record_stays(lab):
    run_id = await lab.start(configured(resourceTtlOnSuccess=1, resourceTtlOnFailure=1000))
    assert (await lab.ended(run_id)).state == "SUCCEEDED"
    await lab.until_pods(0)
    await outbox_is_empty(lab, run_id)
    assert (await lab.api.ok("GET", f"/runs/{run_id}"))["state"] == "SUCCEEDED"


async def claims(lab) -> list[str]:
    return [c.metadata.name for c in (await lab.api.cluster.client.list(PersistentVolumeClaim, HOME)).items]


@pytest.mark.parametrize(("command", "kept"), [("true", False), ("false", True)])
async def test_a_workspace_goes_with_success_and_stays_for_a_retry(lab, command, kept):
    spec = json.loads(json.dumps(configured(workspace={"size": "1Gi"})).replace('"true"', f'"{command}"'))
    component = spec["pipeline_spec"]["components"]["comp-say"]
    component["inputDefinitions"] = {"parameters": {"at": {"parameterType": "STRING"}}}
    given = {"parameters": {"at": {"runtimeValue": {"constant": "{{$.workspace_path}}"}}}}
    spec["pipeline_spec"]["root"]["dag"]["tasks"]["say"]["inputs"] = given
    run_id = await lab.start(spec)
    await lab.ended(run_id)
    assert await claims(lab) == ([f"kfp-workspace-{run_id}"] if kept else [])
    [pod] = await lab.pods()
    assert "/kfp-workspace" in {m.mount_path for m in pod.spec.containers[0].volume_mounts}

    await lab.api.ok("DELETE", f"/runs/{run_id}")

    async def gone() -> bool:
        return not await claims(lab)

    await eventually(gone)


async def test_a_setting_that_is_not_known_is_refused_by_its_name(lab):
    given = {"display_name": "x", "pipeline_spec": configured(mutexName="m")}
    _status, code, message = await lab.api.refused("POST", "/runs", given)
    assert code == 12
    assert "mutexName" in message
