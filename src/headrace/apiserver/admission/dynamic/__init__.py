"""Admission that users configure: webhooks and policies. Nothing here is imported before the first configuration."""
