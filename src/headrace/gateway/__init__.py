"""The front door on 8080: authenticates, then hands requests to components and served models."""

from headrace.gateway.gateway import Gateway

__all__ = ["Gateway"]
