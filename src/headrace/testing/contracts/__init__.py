"""Contract suites: what every implementation of a protocol must do. Subclass one, give it a fixture, run pytest."""
