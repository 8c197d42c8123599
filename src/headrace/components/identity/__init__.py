"""The identity component: people, their logins, sessions and tokens."""
