"""The components of the platform, one room each; they never import one another."""
