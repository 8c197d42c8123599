"""Ownership of fields: server-side apply, and `metadata.managedFields` kept true by every write."""

from headrace.apiserver.fieldmanager.tracking import FieldManagers

__all__ = ["FieldManagers"]
