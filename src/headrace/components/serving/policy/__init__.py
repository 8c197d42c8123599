"""Decisions about InferenceServices; pure: `spec` reads what is asked, `pods` what runs, `status` says it."""
