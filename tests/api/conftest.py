"""How properties are checked here."""

from hypothesis import settings

# A busy machine is no reason to fail: pytest's own timeout watches over tests that hang.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
