"""A server that runs for years: its certificate, the administrator's and the signing key are replaced in time."""

import asyncio
import datetime as dt
import ssl

from cryptography import x509

from headrace.api.core import ServiceAccount
from headrace.api.identity import ADMIN
from headrace.api.meta import ObjectMeta
from headrace.apiserver.http.server import RENEW_SECONDS
from headrace.testing.clock import FakeClock
from headrace.testing.http import http_cluster


async def shown(port):
    """The certificate that a new connection gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(raw)


async def until(check):
    for _ in range(3000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_certificates_and_signing_keys_are_renewed_while_the_server_runs(tmp_path):
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=366)
    async with http_cluster(tmp_path, clock=FakeClock(later)) as running:
        client, tokens, clock = running.cluster.client, running.tokens, running.cluster.clock
        await client.create(ServiceAccount(metadata=ObjectMeta(name="me", namespace="default")))
        before = await shown(running.server.port)
        token, key, admin = await tokens.issue(ADMIN, "default", "me"), tokens.key_id, running.pki.admin.read_bytes()
        tokens._verified.clear()
        clock.step(RENEW_SECONDS)
        await until(lambda: tokens.key_id != key)
        assert running.pki.admin.read_bytes() != admin
        after = await shown(running.server.port)
        assert after.not_valid_after_utc > before.not_valid_after_utc
        clock.step(-RENEW_SECONDS)
        assert tokens.check(token).name == "system:serviceaccount:default:me"
        assert tokens.check(await tokens.issue(ADMIN, "default", "me")) is not None
        published = tokens.jwks()["keys"]
        assert {k["kid"] for k in published if k["kty"] == "RSA"} == {key, tokens.key_id}
        assert len({k["kid"] for k in published if k["kty"] == "EC"}) == 2


async def test_nothing_is_renewed_before_its_time(tmp_path):
    async with http_cluster(tmp_path, clock=FakeClock(dt.datetime.now(dt.UTC))) as running:
        before = {p.name: p.read_bytes() for p in running.pki.folder.iterdir()}
        running.cluster.clock.step(RENEW_SECONDS)
        await until(lambda: running.cluster.clock.sleepers)
        assert {p.name: p.read_bytes() for p in running.pki.folder.iterdir()} == before
