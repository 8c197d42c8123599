"""Istio's objects: see README.md."""
