"""Runtimes: how a pod's containers become processes."""
