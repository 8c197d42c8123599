"""Events of pods, over a real API: all of them, in order, counted where they repeat, few transactions."""

from __future__ import annotations

import asyncio

from headrace.api.core import Event, Pod
from headrace.api.meta import ObjectMeta
from headrace.machinery.events import EventRecorder
from headrace.node.agent.reporter import Reporter
from headrace.testing import embedded_cluster


def pod(name: str) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-of-{name}"))


async def test_what_waits_is_written_together_in_order_and_counted_where_it_repeats() -> None:
    async with embedded_cluster() as cluster:
        reporter = Reporter(EventRecorder(cluster.client, cluster.clock, "kubelet"))
        reporter.start()
        for name in ("a", "b"):
            reporter.normal(pod(name), "Scheduled", "here")
            reporter.warning(pod(name), "Unhealthy", "not well")
            reporter.normal(pod(name), "Unhealthy", "not well")
        for _ in range(3):
            reporter.warning(pod("a"), "Unhealthy", "not well")
        reporter.normal(pod("a"), "Killing", "Stopping container c")
        await reporter.stop()
        listed = await cluster.client.list(Event, "default")
        found = sorted(listed.items, key=lambda event: event.metadata.name.split(".")[1])
        assert [(e.involved_object.name, e.type, e.reason, e.count) for e in found] == [
            ("a", "Normal", "Scheduled", 1),
            ("a", "Warning", "Unhealthy", 4),
            ("a", "Normal", "Unhealthy", 1),
            ("b", "Normal", "Scheduled", 1),
            ("b", "Warning", "Unhealthy", 1),
            ("b", "Normal", "Unhealthy", 1),
            ("a", "Normal", "Killing", 1),
        ]
        created = [e for e in found if e.count == 1]
        versions = [int(e.metadata.resource_version) for e in created]
        assert versions == sorted(versions), "whoever watches sees them in this order"


async def test_an_event_that_cannot_be_written_takes_no_other_along(caplog) -> None:
    class Broken(EventRecorder):
        async def warning(self, obj, reason, message) -> None:
            raise OSError("no way")

    async with embedded_cluster() as cluster:
        reporter = Reporter(Broken(cluster.client, cluster.clock, "kubelet"))
        reporter.start()
        reporter.warning(pod("a"), "Bad", "lost")
        reporter.normal(pod("a"), "Good", "kept")
        await asyncio.wait_for(reporter.stop(), 30)
        assert [e.reason for e in (await cluster.client.list(Event, "default")).items] == ["Good"]
        assert "event Bad of default/a was not written" in caplog.text
