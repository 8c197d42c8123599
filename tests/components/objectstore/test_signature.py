"""Signatures against the examples that AWS publishes (S3 API reference, Signature Version 4)."""

import dataclasses
import datetime as dt
import hashlib

import pytest

from headrace.components.objectstore.api import signature
from headrace.components.objectstore.api.chunked import ChunkDecoder
from headrace.components.objectstore.types import S3Error

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = dt.datetime(2013, 5, 24, tzinfo=dt.UTC)
EMPTY = hashlib.sha256(b"").hexdigest()
SCOPE = "20130524/us-east-1/s3/aws4_request"
HOST = "examplebucket.s3.amazonaws.com"


def authorization(names, value):
    return f"AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE},SignedHeaders={names},Signature={value}"


GET = signature.Signable(
    "GET",
    "/test.txt",
    [],
    {
        "host": HOST,
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
        "authorization": authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    },
)
LIST = signature.Signable(
    "GET",
    "/",
    [("max-keys", "2"), ("prefix", "J")],
    {
        "host": HOST,
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
        "authorization": authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    },
)
PRESIGNED = signature.Signable(
    "GET",
    "/test.txt",
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{KEY}/{SCOPE}"),
        ("X-Amz-Date", "20130524T000000Z"),
        ("X-Amz-Expires", "86400"),
        ("X-Amz-SignedHeaders", "host"),
        ("X-Amz-Signature", "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
    ],
    {"host": HOST},
)
CHUNKED = signature.Signable(
    "PUT",
    "/examplebucket/chunkObject.txt",
    [],
    {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "authorization": authorization(
            "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;"
            "x-amz-storage-class",
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        ),
    },
)


def check(request, now=NOW, secret=SECRET):
    return signature.verify(request, signature.read_claim(request, now), secret)


@pytest.mark.parametrize("request_", [GET, LIST, PRESIGNED, CHUNKED])
def test_published_examples(request_):
    check(request_)


@pytest.mark.parametrize("request_", [GET, LIST, PRESIGNED, CHUNKED])
@pytest.mark.parametrize(
    "change",
    [
        lambda r: dataclasses.replace(r, method="DELETE"),
        lambda r: dataclasses.replace(r, path=r.path + "x"),
        lambda r: dataclasses.replace(r, query=[*r.query, ("acl", "")]),
        lambda r: dataclasses.replace(r, headers={**r.headers, "host": "elsewhere"}),
    ],
)
def test_a_changed_request_does_not_match(request_, change):
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        check(change(request_))


def test_a_wrong_secret_does_not_match():
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        check(GET, secret="wrong")


def with_headers(request_, **headers):
    return dataclasses.replace(request_, headers={**request_.headers, **headers})


@pytest.mark.parametrize(
    ("request_", "now", "code"),
    [
        (GET, NOW + dt.timedelta(minutes=16), "RequestTimeTooSkewed"),
        (GET, NOW - dt.timedelta(minutes=16), "RequestTimeTooSkewed"),
        (PRESIGNED, NOW + dt.timedelta(days=1, seconds=1), "expired"),
        (PRESIGNED, NOW - dt.timedelta(minutes=16), "not valid yet"),
        (with_headers(GET, **{"x-amz-meta-a": "unsigned"}), NOW, "not signed"),
        (with_headers(GET, authorization="AWS4-HMAC-SHA256 nonsense"), NOW, "AuthorizationHeaderMalformed"),
        (with_headers(GET, authorization="AWS AKIA:sig"), NOW, "AWS4-HMAC-SHA256"),
        (with_headers(GET, authorization="Bearer x"), NOW, "not supported"),
        (with_headers(GET, **{"x-amz-date": "yesterday"}), NOW, "x-amz-date"),
        (with_headers(GET, **{"x-amz-content-sha256": ""}), NOW, "MissingSecurityHeader"),
        (dataclasses.replace(GET, headers={"host": HOST}), NOW, "AccessDenied"),
        (dataclasses.replace(PRESIGNED, query=PRESIGNED.query[:-2]), NOW, "AuthorizationQueryParametersError"),
    ],
)
def test_claims_that_are_refused(request_, now, code):
    with pytest.raises(S3Error, match=code):
        signature.read_claim(request_, now)


def test_within_the_skew():
    check(GET, NOW + dt.timedelta(minutes=14))
    check(PRESIGNED, NOW + dt.timedelta(hours=23))


SIGNATURES = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)


def encode(pieces, signatures):
    return b"".join(
        f"{len(p):x};chunk-signature={s}\r\n".encode() + p + b"\r\n" for p, s in zip(pieces, signatures, strict=True)
    )


PIECES = (b"a" * 65536, b"a" * 1024, b"")


def decode(decoder, body, step):
    out = b"".join(b"".join(decoder.feed(body[i : i + step])) for i in range(0, len(body), step))
    decoder.finish()
    return out


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_signed_chunks_in_pieces_of_any_size(step):
    body = encode(PIECES, SIGNATURES)
    assert len(body) == 66824
    assert decode(ChunkDecoder(check(CHUNKED), trailer=False), body, step) == b"a" * 66560


@pytest.mark.parametrize(
    "body",
    [
        encode((b"b" * 65536, *PIECES[1:]), SIGNATURES),
        encode(PIECES, (SIGNATURES[1], SIGNATURES[0], SIGNATURES[2])),
        encode((PIECES[0], b""), (SIGNATURES[0], SIGNATURES[2])),
        b"5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_signed_chunks_that_were_changed(body):
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decode(ChunkDecoder(check(CHUNKED), trailer=False), body, 4096)


def signed_trailer(key, data, trailer, *, gap=b""):
    first = key.chunk(key.seed, hashlib.sha256(data).hexdigest())
    last = key.chunk(first, EMPTY)
    end = key.trailer(last, hashlib.sha256(trailer + b"\n").hexdigest())
    body = encode((data,), (first,)) + f"0;chunk-signature={last}\r\n".encode()
    return body + trailer + b"\r\n" + gap + f"x-amz-trailer-signature:{end}\r\n\r\n".encode()


@pytest.mark.parametrize("gap", [b"", b"\r\n"])
@pytest.mark.parametrize("step", [1, 50, 5000])
def test_signed_trailers(gap, step):
    key = check(CHUNKED)
    decoder = ChunkDecoder(key, trailer=True)
    body = signed_trailer(key, b"hello", b"x-amz-checksum-crc32:NhCmhg==", gap=gap)
    assert decode(decoder, body, step) == b"hello"
    assert decoder.trailers["x-amz-checksum-crc32"] == "NhCmhg=="


def test_a_changed_trailer():
    key = check(CHUNKED)
    body = signed_trailer(key, b"hello", b"x-amz-checksum-crc32:NhCmhg==").replace(b"NhCmhg", b"NhCmhh")
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        decode(ChunkDecoder(key, trailer=True), body, 50)


@pytest.mark.parametrize("step", [1, 3, 100])
def test_unsigned_trailers(step):
    decoder = ChunkDecoder(None, trailer=True)
    body = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
    assert decode(decoder, body, step) == b"hello world"
    assert decoder.trailers == {"x-amz-checksum-crc32": "DUoRhQ=="}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"5\r\nhello\r\n", "IncompleteBody"),
        (b"5\r\nhel", "IncompleteBody"),
        (b"zz\r\n", "InvalidRequest"),
        (b"2\r\nhello\r\n0\r\n\r\n", "InvalidRequest"),
        (b"0\r\n\r\nmore", "InvalidRequest"),
        (b"5" * 5000, "InvalidRequest"),
        (b"0\r\nnot a header\r\n\r\n", "InvalidRequest"),
        (b"-1\r\n", "InvalidRequest"),
    ],
)
def test_malformed_chunks(body, code):
    with pytest.raises(S3Error, match=code):
        decode(ChunkDecoder(None, trailer=True), body, 4096)
