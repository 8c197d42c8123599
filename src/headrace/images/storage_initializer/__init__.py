"""The init container `storage-initializer` of KServe: brings a model from where it is stored into the pod.

Invariants: standard library only; DEST holds either everything that the URI names or the process fails, with one
line that says why on stderr and in the termination log.
"""
