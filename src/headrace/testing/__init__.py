"""Public helpers for tests: an embedded cluster, a fake clock, contract suites, object builders."""

from headrace.testing.clock import FakeClock
from headrace.testing.cluster import EmbeddedCluster, embedded_cluster
from headrace.testing.eventually import eventually

__all__ = ["EmbeddedCluster", "FakeClock", "embedded_cluster", "eventually"]
