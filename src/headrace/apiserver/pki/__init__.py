"""The cluster's own trust: a CA, certificates of server and administrator, the token-signing key, kubeconfigs."""
