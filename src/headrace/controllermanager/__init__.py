"""Kubernetes' own controllers (Deployment, Job, garbage collection …) for the embedded cluster.

On a real Kubernetes cluster none of these run: kube-controller-manager does the same work there.
"""
