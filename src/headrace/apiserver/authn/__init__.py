"""Who is asking: client certificates, service-account tokens, impersonation."""
