"""HTTPS at the gateway, with a given or a generated certificate."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from headrace.machinery.component import ConfigurationError

if TYPE_CHECKING:
    from headrace.machinery.settings import Settings


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """The context to serve with, or None for plain HTTP. Raises ConfigurationError for files that do not do."""
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the gateway's certificate {settings.tls_certificate} and key {settings.tls_key} cannot be used: {error}"
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
