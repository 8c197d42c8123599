"""The node's helper programs: spawner, network holder, supervisors, fork servers.

They run apart from the control plane, so that pods outlive it. Invariants:
- standard library only, no import of the rest of the platform, Python 3.9 syntax (fork servers run under an
  environment's interpreter);
- every process is single-threaded, because all of them fork.
"""
