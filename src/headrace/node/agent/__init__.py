"""The node agent: what a kubelet and a one-node scheduler do, over the runtime protocol."""
