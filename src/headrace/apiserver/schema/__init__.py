"""Schemas: the official ones of the built-in kinds, those of custom kinds, and what they say of objects."""

from headrace.apiserver.schema.catalog import SchemaCatalog

__all__ = ["SchemaCatalog"]
