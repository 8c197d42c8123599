"""Programs that run inside pods; each folder is started by path with the pod's own Python.

They use the standard library and what their environment holds, and import nothing of the platform.
"""
