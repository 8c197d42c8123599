"""The object store: S3 for pipelines, models and people."""
