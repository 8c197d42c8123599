"""Unmodified kubectl on the kinds that its own commands make, show and explain (no controllers run here)."""

import shutil

import pytest

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]


def rows(output):
    """A printed table as a list of lists."""
    return [line.split() for line in output.splitlines()]


def test_cron_jobs(kubectl, namespace):
    kubectl("-n", namespace, "create", "cronjob", "tick", "--image=img", "--schedule=*/5 * * * *", "--", "date")
    header, row = (line.split("  ") for line in kubectl("-n", namespace, "get", "cj").splitlines())
    assert [c.strip() for c in header if c][:4] == ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND"]
    assert [c.strip() for c in row if c][:4] == ["tick", "*/5 * * * *", "<none>", "False"]
    kubectl("-n", namespace, "create", "job", "now", "--from=cronjob/tick")
    assert "cronjob.kubernetes.io/instantiate" in kubectl("-n", namespace, "get", "job", "now", "-o", "yaml")
    assert "Concurrency Policy:" in kubectl("-n", namespace, "describe", "cronjob", "tick")
    refused = kubectl.fails("-n", namespace, "create", "cronjob", "bad", "--image=img", "--schedule=* * *")
    assert "spec.schedule: Invalid value" in refused
    assert "timeZone" in kubectl("explain", "cronjob.spec")
