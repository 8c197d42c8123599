"""What `kubectl get` prints: columns and cells of every kind, made by the server as Kubernetes does."""
