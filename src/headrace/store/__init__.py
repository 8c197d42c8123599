"""Durable, versioned storage of raw objects for the API server."""
