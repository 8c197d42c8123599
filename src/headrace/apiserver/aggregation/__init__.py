"""API services: group versions that other servers answer, reached through this one as if they were its own."""
