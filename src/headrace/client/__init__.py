"""How controllers and component APIs reach the Kubernetes API, whatever stands behind it."""
