"""CEL, the Common Expression Language, as Kubernetes speaks it: parsed, type-checked against schemas, and metered.

Why not a package: those for Python either cannot check types against a schema without protobuf descriptors, or have
no running cost, without which one expression of a stranger stops the server. Nothing here is imported before the
first expression is compiled.
"""
