"""Who is told of a run's end, with which words, and where such messages may go."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac

import pytest

from headrace.components.pipelines.policy import notifications as n
from headrace.components.pipelines.policy.plan import Finish
from headrace.components.pipelines.store.models import FollowUp, FollowUpKind, Run, RuntimeState

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
RULES = """
- name: hook
  states: [succeeded, failed]
  pipelines: ["train-*"]
  webhook: {url: "https://hooks.example.com/x", secret: k}
- {name: mail, email: {to: [a@example.com], secret: smtp}}
"""


def run(**more: object) -> Run:
    found = Run("r1", "home", "e1", "a run", pipeline_name="train-digits", created_at=NOW)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def told(state: str, **more: object) -> list[str]:
    rules, problems = n.read_rules({n.KEY: RULES})
    assert problems == []
    return [f.payload["rule"] for f in n.followups(rules, run(**more), Finish(RuntimeState(state)), NOW)]


@pytest.mark.parametrize(
    ("state", "pipeline", "expected"),
    [
        ("SUCCEEDED", "train-digits", ["hook"]),
        ("FAILED", "train-digits", ["hook", "mail"]),
        ("CANCELED", "train-digits", []),
        ("FAILED", "other", ["mail"]),
        ("SUCCEEDED", "other", []),
    ],
)
def test_a_rule_is_about_states_and_pipelines(state, pipeline, expected):
    assert told(state, pipeline_name=pipeline) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is no YAML"),
        ("{}", "must be a list"),
        ("[5]", "Rule 1 of"),
        ("[{webhook: {url: 'http://x'}}]", "`name`"),
        ("[{name: a}]", "Rule a of notifications.yaml is wrong: give either webhook or email."),
        ("[{name: a, webhook: {url: 'http://x'}, email: {to: [a@b], secret: s}}]", "give either webhook or email"),
        ("[{name: a, webhook: {url: 'file:///etc/passwd'}}]", "webhook.url must be an http or https URL"),
        ("[{name: a, webhook: {url: 'http://x:99999/'}}]", "webhook.url must be an http or https URL"),
        ("[{name: a, email: {to: [nobody], secret: s}}]", "email.to must list mail addresses"),
        ('[{name: a, email: {to: ["a@b\\nBcc: c@d"], secret: s}}]', "email.to must list mail addresses"),
        (
            "[{name: a, states: [done], webhook: {url: 'http://x'}}]",
            "states must list some of succeeded, failed, canceled",
        ),
        ("[{name: a, when: x, webhook: {url: 'http://x'}}]", "unknown field `when`"),
    ],
)
def test_a_rule_that_is_wrong_is_said(text, problem):
    rules, problems = n.read_rules({n.KEY: text})
    assert rules == []
    assert problem in problems[0]


def test_a_wrong_rule_takes_nothing_from_the_others():
    rules, problems = n.read_rules({n.KEY: RULES + "- {name: mail, webhook: {url: 'http://x'}}\n"})
    assert [rule.name for rule in rules] == ["hook", "mail"]
    assert problems == ["Rule mail of notifications.yaml is wrong: each rule needs a name of its own."]


def test_a_config_map_without_rules():
    assert n.read_rules({}) == ([], [])
    assert n.read_rules({n.ALLOWED_KEY: "x"}) == ([], [])
    assert n.read_rules({"rules": "x"})[1] == ["The ConfigMap pipeline-notifications has no key notifications.yaml."]


def test_the_id_of_a_message_follows_from_the_run_its_end_and_the_rule():
    rules, _ = n.read_rules({n.KEY: RULES})
    failed = Finish(RuntimeState.FAILED, 9, "No.")
    first, again = (n.followups(rules, run(), failed, NOW) for _ in range(2))
    assert [f.id for f in first] == [f.id for f in again]
    retried = n.followups(rules, run(state_history=[{}, {}]), failed, NOW)
    assert not {f.id for f in first} & {f.id for f in retried}


def test_what_is_told_and_how_it_is_signed():
    rules, _ = n.read_rules({n.KEY: RULES})
    [hook, mail] = n.followups(rules, run(display_name="a\nb"), Finish(RuntimeState.FAILED, 9, "No."), NOW)
    body = n.body_of(hook.payload)
    assert n.sign(b"key", body) == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()
    assert hook.payload["message"]["event"] == "run.failed"
    assert hook.payload["message"]["run"]["error"] == {"code": 9, "message": "No."}
    subject, text = n.mail_of(mail.payload)
    assert subject == "Run 'a b' FAILED"
    assert "Reason: No." in text


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("169.254.169.254", True),
        ("fe80::1%eth0", True),
        ("224.0.0.1", True),
        ("240.0.0.1", True),
        ("10.1.2.3", False),
        ("192.168.1.1", False),
        ("93.184.216.34", False),
        ("2606:2800::1", False),
    ],
)
def test_what_leads_back_to_this_machine_is_refused(address, refused):
    why = n.refusal("Hooks.local", 80, ["93.184.216.34", address], frozenset())
    assert bool(why) is refused
    if refused:
        assert "an administrator can allow it under allowed-hosts in the ConfigMap kubeflow/pipeline" in why
        assert not n.refusal("Hooks.local", 80, [address], n.allowed_hosts({n.ALLOWED_KEY: "a, HOOKS.local:80"}))
        assert not n.refusal("Hooks.local", 80, [address], n.allowed_hosts({n.ALLOWED_KEY: "hooks.local"}))
        assert n.refusal("hooks.local", 81, [address], n.allowed_hosts({n.ALLOWED_KEY: "hooks.local:80"}))


def test_waits_grow_until_it_is_given_up():
    one = FollowUp("i", "r", "home", FollowUpKind.WEBHOOK, NOW, created_at=NOW)
    waits = []
    now = NOW
    while (due := n.next_try(one, now)) is not None:
        waits.append((due - now).total_seconds())
        now, one.attempts = due, one.attempts + 1
        assert one.attempts < 200
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits[-1] == 1800.0
    assert dt.timedelta(hours=23) < now - NOW <= dt.timedelta(hours=24)
