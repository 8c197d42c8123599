"""Profiles: namespaces with owners, and what every one of them holds."""
