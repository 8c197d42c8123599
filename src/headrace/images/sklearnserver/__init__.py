"""The model server of `kserve/sklearnserver`: one scikit-learn model behind KServe's V1 and V2 REST protocols.

Invariants: it listens only when the model is loaded (so readiness is a TCP connect); a model that does not load
ends the process with the real reason in one line, on stderr and in the termination log; every error is KServe's
`{"error": sentence}`.
"""
