"""The dashboard: one place in which a person sees everything that runs."""
