"""Wire types and values of the Kubernetes API; knows nothing of servers, stores or clients."""
