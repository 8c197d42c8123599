"""Volumes: what a pod's volume sources mean on this machine."""


class VolumeError(Exception):
    """A volume cannot be set up now; the message is the kubelet's where it has one."""
