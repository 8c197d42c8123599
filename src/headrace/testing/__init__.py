"""Public helpers for tests of controllers and components: contracts, builders, a clock that tests step."""
