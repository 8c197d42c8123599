"""Real pods through the agent."""

from __future__ import annotations

import pytest
from tests.node.agent.conftest import Node, shell

pytestmark = pytest.mark.node


async def test_success(node: Node) -> None:
    await node.run("one", shell("echo hello; echo bye >&2"))
    pod = await node.phase("one", "Succeeded")
    assert pod.spec.node_name == "headrace"
    held = pod.status.container_statuses[0]
    assert held.state.terminated is not None
    assert (held.state.terminated.exit_code, held.state.terminated.reason) == (0, "Completed")
    assert await node.log("one") == "hello\nbye\n"
