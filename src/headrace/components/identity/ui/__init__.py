"""Pages of the login, and of one's own account."""
