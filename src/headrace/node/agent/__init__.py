"""The node agent: what a kubelet and a one-node scheduler do, over the runtime protocol."""

from headrace.node.agent.agent import NodeAgent

__all__ = ["NodeAgent"]
