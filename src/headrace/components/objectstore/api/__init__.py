"""The S3 dialect over HTTP: signatures, bodies, operations."""
