"""The HTTP face of the API server: what kubectl and the Kubernetes client libraries speak to."""
