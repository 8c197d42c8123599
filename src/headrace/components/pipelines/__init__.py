"""Pipelines: the Kubeflow Pipelines API and the engine that runs compiled pipelines."""
