"""The HTTP side: the OIDC issuer at /dex, the login at /oauth2, and what the gateway asks."""
