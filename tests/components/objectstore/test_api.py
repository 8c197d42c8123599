"""The dialect on the wire: errors in XML with the right status, isolation of profiles, bodies that are wrong."""

import base64
import hashlib
import http.client
import socket
import time
import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from headrace.components.objectstore import policy
from headrace.components.objectstore.api import signature
from headrace.images.s3client import S3Error

from .conftest import PROFILE


def call(s3, method, path, *, query=None, headers=None, body=b"", digest=None):
    """A signed request of any kind; (status, headers, XML root or bytes)."""
    digest = digest or hashlib.sha256(body).hexdigest()
    signed = s3._sign(method, path, query or {}, headers or {}, digest)
    target = path + ("?" + urllib.parse.urlencode(query) if query else "")
    connection = http.client.HTTPConnection(s3._netloc, timeout=10)
    connection.request(method, target, body=body or None, headers=signed)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    found = {k.lower(): v for k, v in response.getheaders()}
    root = ET.fromstring(data) if found.get("content-type") == "application/xml" and data else data
    return response.status, found, root


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def code(answer):
    status, _, root = answer
    return status, root.findtext("Code")


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/nobucket", {}, (404, "NoSuchBucket")),
        ("GET", "/mlpipeline/nokey", {}, (404, "NoSuchKey")),
        ("GET", "/nobucket/nokey", {}, (404, "NoSuchBucket")),
        ("PUT", "/nobucket/key", {}, (404, "NoSuchBucket")),
        ("PUT", "/mlpipeline", {}, (409, "BucketAlreadyOwnedByYou")),
        ("PUT", "/Bad_Name", {}, (400, "InvalidBucketName")),
        ("DELETE", "/nobucket", {}, (404, "NoSuchBucket")),
        ("PUT", "/mlpipeline/" + "k" * 1025, {}, (400, "KeyTooLongError")),
        ("GET", "/mlpipeline", {"max-keys": "many"}, (400, "InvalidArgument")),
        ("GET", "/mlpipeline", {"max-keys": "-1"}, (400, "InvalidArgument")),
        ("GET", "/mlpipeline", {"list-type": "2", "continuation-token": "!"}, (400, "InvalidArgument")),
        ("GET", "/mlpipeline", {"encoding-type": "rot13"}, (400, "InvalidArgument")),
        ("PUT", "/mlpipeline/k", {"uploadId": "none", "partNumber": "1"}, (404, "NoSuchUpload")),
        ("PUT", "/mlpipeline/k", {"uploadId": "none", "partNumber": "0"}, (400, "InvalidArgument")),
        ("PUT", "/mlpipeline/k", {"uploadId": "none", "partNumber": "10001"}, (400, "InvalidArgument")),
        ("DELETE", "/mlpipeline/k", {"uploadId": "none"}, (404, "NoSuchUpload")),
        ("POST", "/mlpipeline/k", {}, (405, "MethodNotAllowed")),
        ("POST", "/mlpipeline", {"delete": ""}, (400, "MalformedXML")),
    ],
)
def test_errors(running, method, path, query, expected):
    assert code(call(running.s3(), method, path, query=query)) == expected


def test_an_error_document(running):
    status, headers, root = call(running.s3(), "GET", "/mlpipeline/no%20key")
    assert status == 404
    assert [child.tag for child in root] == ["Code", "Message", "Resource", "RequestId"]
    assert root.findtext("Resource") == "/mlpipeline/no key"
    assert root.findtext("RequestId") == headers["x-amz-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "query", "operation"),
    [
        ("PUT", "/mlpipeline", {"versioning": ""}, "PutBucketVersioning"),
        ("GET", "/mlpipeline", {"policy": ""}, "GetBucketPolicy"),
        ("GET", "/mlpipeline", {"acl": ""}, "GetBucketAcl"),
        ("PUT", "/mlpipeline/k", {"acl": ""}, "PutObjectAcl"),
        ("GET", "/mlpipeline", {"versions": ""}, "ListObjectVersions"),
        ("PUT", "/mlpipeline", {"lifecycle": ""}, "PutBucketLifecycleConfiguration"),
        ("POST", "/mlpipeline/k", {"select": "", "select-type": "2"}, "SelectObjectContent"),
        ("GET", "/mlpipeline/k", {"versionId": "3"}, "versionId"),
        ("POST", "/mlpipeline", {}, "PostObject"),
    ],
)
def test_what_is_not_there_is_refused_by_name(running, method, path, query, operation):
    answer = call(running.s3(), method, path, query=query)
    assert code(answer) == (501, "NotImplemented")
    assert operation in answer[2].findtext("Message")


@pytest.mark.parametrize(
    "header",
    [
        {"x-amz-server-side-encryption": "AES256"},
        {"x-amz-acl": "public-read"},
        {"x-amz-object-lock-mode": "GOVERNANCE"},
        {"x-amz-grant-read": "id=1"},
    ],
)
def test_headers_that_ask_for_more_are_refused(running, header):
    assert code(call(running.s3(), "PUT", "/mlpipeline/k", headers=header)) == (501, "NotImplemented")
    assert running.files == []


def test_wrong_keys(running):
    wrong_secret = running.client("minio", "wrong")
    assert code(call(wrong_secret, "GET", "/mlpipeline")) == (403, "SignatureDoesNotMatch")
    nobody = running.client("nobody", "x")
    assert code(call(nobody, "GET", "/mlpipeline")) == (403, "InvalidAccessKeyId")
    anonymous = running.client("", "")
    assert code(call(anonymous, "GET", "/mlpipeline/x")) == (403, "AccessDenied")


def test_a_profile_reaches_its_prefixes_and_nothing_else(running):
    root, team = running.s3(), running.s3(PROFILE)
    own, other = "private-artifacts/team-a/x", "private-artifacts/team-b/x"
    root.put("mlpipeline", other, b"secret")
    team.put("mlpipeline", own, b"mine")
    assert team.get("mlpipeline", own) == b"mine"
    assert team.list("mlpipeline", "private-artifacts/team-a/") == [(own, 4)]
    for denied in (
        lambda: team.get("mlpipeline", other),
        lambda: team.put("mlpipeline", other, b""),
        lambda: team.delete("mlpipeline", other),
        lambda: team.exists("mlpipeline", other),
        lambda: team.list("mlpipeline", ""),
        lambda: team.list("mlpipeline", "private-artifacts/"),
        lambda: team.list("elsewhere", "private-artifacts/team-a/"),
    ):
        with pytest.raises(S3Error, match="AccessDenied"):
            denied()
    assert code(call(team, "GET", "/")) == (403, "AccessDenied")
    assert code(call(team, "PUT", "/team-a")) == (403, "AccessDenied")
    copy = {"x-amz-copy-source": f"/mlpipeline/{other}"}
    assert code(call(team, "PUT", f"/mlpipeline/{own}", headers=copy)) == (403, "AccessDenied")
    body = f"<Delete><Object><Key>{own}</Key></Object><Object><Key>{other}</Key></Object></Delete>".encode()
    status, _, result = call(team, "POST", "/mlpipeline", query={"delete": ""}, body=body)
    assert status == 200
    assert [(e.tag.rpartition("}")[2], e[0].text) for e in result] == [("Deleted", own), ("Error", other)]
    assert root.get("mlpipeline", other) == b"secret"


@pytest.mark.parametrize(
    "key", ["../../../etc/passwd", "a//b", "/abs", "a/", ".", "nul\x01", "ü ß+&%=?#", "x" * 1024, "a\\b"]
)
def test_keys_are_never_paths(running, key):
    s3 = running.s3()
    s3.put("mlpipeline", key, key.encode())
    assert s3.get("mlpipeline", key) == key.encode()
    assert s3.list("mlpipeline", "") == [(key, len(key.encode()))]
    assert len(running.files) == 1
    s3.delete("mlpipeline", key)
    assert not s3.exists("mlpipeline", key)


@pytest.mark.parametrize(
    ("headers", "digest", "expected"),
    [
        ({}, hashlib.sha256(b"other").hexdigest(), "XAmzContentSHA256Mismatch"),
        ({"content-md5": base64.b64encode(hashlib.md5(b"other").digest()).decode()}, None, "BadDigest"),
        ({"content-md5": "nonsense"}, None, "InvalidDigest"),
        ({"x-amz-checksum-crc32": "AAAAAA=="}, None, "BadDigest"),
        ({"x-amz-checksum-crc32c": "AAAAAA=="}, None, "BadDigest"),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, None, "BadDigest"),
        ({"x-amz-checksum-sha256": "AAAA"}, None, "InvalidRequest"),
        ({"x-amz-checksum-blake": "AAAA"}, None, "InvalidRequest"),
        ({"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-sha1": "AAAA"}, None, "InvalidRequest"),
        ({}, "nonsense", "InvalidArgument"),
        ({}, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
    ],
)
def test_bodies_that_are_not_what_was_announced(running, headers, digest, expected):
    answer = call(running.s3(), "PUT", "/mlpipeline/k", headers=headers, body=b"hello", digest=digest)
    assert code(answer)[1] == expected
    assert not running.s3().exists("mlpipeline", "k")
    wait_until(lambda: not running.files)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crc32", "NhCmhg=="),
        ("crc32c", "mnG7TA=="),
        ("crc64nvme", "M3eFcAZSQlc="),
        ("sha1", base64.b64encode(hashlib.sha1(b"hello").digest()).decode()),
        ("sha256", base64.b64encode(hashlib.sha256(b"hello").digest()).decode()),
    ],
)
def test_checksums_are_kept_and_sent_back(running, name, value):
    header = f"x-amz-checksum-{name}"
    status, headers, _ = call(running.s3(), "PUT", "/mlpipeline/k", headers={header: value}, body=b"hello")
    assert (status, headers[header]) == (200, value)
    _, headers, _ = call(running.s3(), "HEAD", "/mlpipeline/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert (headers[header], headers["x-amz-checksum-type"]) == (value, "FULL_OBJECT")
    _, headers, _ = call(running.s3(), "HEAD", "/mlpipeline/k")
    assert header not in headers


def chunked(s3, kind, encode, **extra):
    """PUT "hello world" in aws-chunked; `encode(key)` makes the body from the request's signature."""
    headers = {
        "content-encoding": "aws-chunked,gzip",
        "x-amz-decoded-content-length": "11",
        "x-amz-trailer": "x-amz-checksum-crc32",
        **extra,
    }
    signed = s3._sign("PUT", "/mlpipeline/k", {}, headers, kind)
    scope, _, seed = signed["authorization"].partition("Credential=minio/")[2].partition(", SignedHeaders=")
    key = signature.ChunkKey(signature.signing_key("minio123", scope), signed["x-amz-date"], scope, seed[-64:])
    connection = http.client.HTTPConnection(s3._netloc, timeout=10)
    connection.request("PUT", "/mlpipeline/k", body=encode(key), headers=signed)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, data


def unsigned(checksum=b"DUoRhQ=="):
    return b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:" + checksum + b"\r\n\r\n"


def signed(key, checksum=b"DUoRhQ=="):
    body, previous = b"", key.seed
    for piece in (b"hello", b" world", b""):
        previous = key.chunk(previous, hashlib.sha256(piece).hexdigest())
        body += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + (piece + b"\r\n" if piece else b"")
    line = b"x-amz-checksum-crc32:" + checksum
    end = key.trailer(previous, hashlib.sha256(line + b"\n").hexdigest())
    return body + line + f"\r\nx-amz-trailer-signature:{end}\r\n\r\n".encode()


UNSIGNED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"


@pytest.mark.parametrize(("kind", "encode"), [(UNSIGNED, lambda _: unsigned()), (SIGNED, signed)])
def test_bodies_in_chunks(running, kind, encode):
    s3 = running.s3()
    assert chunked(s3, kind, encode) == (200, b"")
    _, headers, data = call(s3, "GET", "/mlpipeline/k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert data == b"hello world"
    assert (headers["x-amz-checksum-crc32"], headers["content-encoding"]) == ("DUoRhQ==", "gzip")


@pytest.mark.parametrize(
    ("kind", "encode", "extra", "expected"),
    [
        (UNSIGNED, lambda _: unsigned(b"AAAAAA=="), {}, b"BadDigest"),
        (SIGNED, lambda key: signed(key, b"AAAAAA=="), {}, b"BadDigest"),
        (SIGNED, lambda key: signed(key).replace(b"hello", b"jello"), {}, b"SignatureDoesNotMatch"),
        (SIGNED, lambda _: unsigned(), {}, b"SignatureDoesNotMatch"),
        (UNSIGNED, lambda _: unsigned(), {"x-amz-decoded-content-length": "10"}, b"IncompleteBody"),
        (UNSIGNED, lambda _: unsigned(), {"x-amz-decoded-content-length": "12"}, b"IncompleteBody"),
        (UNSIGNED, lambda _: unsigned(), {"x-amz-decoded-content-length": ""}, b"MissingContentLength"),
        (UNSIGNED, lambda _: unsigned()[:-9], {}, b"IncompleteBody"),
    ],
)
def test_bodies_in_chunks_that_are_wrong(running, kind, encode, extra, expected):
    status, data = chunked(running.s3(), kind, encode, **extra)
    assert 400 <= status < 500
    assert expected in data
    assert not running.s3().exists("mlpipeline", "k")


def test_an_upload_that_breaks_off_leaves_nothing(running):
    s3 = running.s3()
    signed = s3._sign("PUT", "/mlpipeline/k", {}, {}, "UNSIGNED-PAYLOAD")
    host, _, port = s3._netloc.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "".join(f"{k}: {v}\r\n" for k, v in {**signed, "content-length": "4000000"}.items())
        connection.sendall(f"PUT /mlpipeline/k HTTP/1.1\r\n{head}\r\n".encode() + b"x" * 3_000_000)
        wait_until(lambda: running.files)
    wait_until(lambda: not running.files)
    assert not s3.exists("mlpipeline", "k")


def test_without_a_length(running):
    s3 = running.s3()
    signed = s3._sign("PUT", "/mlpipeline/k", {}, {}, "UNSIGNED-PAYLOAD")
    connection = http.client.HTTPConnection(s3._netloc, timeout=10)
    connection.request("PUT", "/mlpipeline/k", body=iter([b"a", b"b"]), headers=signed, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 411
    assert b"MissingContentLength" in response.read()
    connection.close()


def test_xml_bombs_are_refused(running):
    bomb = b'<!DOCTYPE d [<!ENTITY a "aaaa">]><Delete><Object><Key>&a;</Key></Object></Delete>'
    assert code(call(running.s3(), "POST", "/mlpipeline", query={"delete": ""}, body=bomb)) == (400, "MalformedXML")


def test_health_needs_no_key(running):
    anonymous = running.client("", "")
    assert call(anonymous, "GET", "/minio/health/live")[0] == 200
    assert call(anonymous, "GET", "/minio/other")[0] == 403


def test_the_bucket_in_the_host_header(running):
    s3 = running.s3()
    s3.put("mlpipeline", "dir/key", b"by path")
    virtual = running.client("minio", "minio123")
    virtual._netloc = "mlpipeline.minio-service.kubeflow:9000"
    signed = virtual._sign("GET", "/dir/key", {}, {}, hashlib.sha256(b"").hexdigest())
    connection = http.client.HTTPConnection(s3._netloc, timeout=10)
    connection.request("GET", "/dir/key", headers=signed)
    assert connection.getresponse().read() == b"by path"
    connection.close()


def test_multipart_rules(running):
    s3 = running.s3()
    _, _, root = call(s3, "POST", "/mlpipeline/k", query={"uploads": ""})
    upload = root.findtext("{*}UploadId")

    def part(number, data):
        query = {"partNumber": str(number), "uploadId": upload}
        return call(s3, "PUT", "/mlpipeline/k", query=query, body=data)[1]["etag"]

    def complete(*parts):
        inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
        body = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()
        return call(s3, "POST", "/mlpipeline/k", query={"uploadId": upload}, body=body)

    small, last = part(1, b"small"), part(2, b"last")
    assert code(complete((1, small), (2, last))) == (400, "EntityTooSmall")
    assert code(complete((2, last), (1, small))) == (400, "InvalidPartOrder")
    assert code(complete((1, last))) == (400, "InvalidPart")
    assert code(complete((3, last))) == (400, "InvalidPart")
    assert code(complete()) == (400, "MalformedXML")
    big = part(1, b"b" * (5 << 20))
    status, _, root = complete((1, big), (2, last))
    digests = bytes.fromhex(big.strip('"')) + bytes.fromhex(last.strip('"'))
    assert status == 200
    assert root.findtext("{*}ETag") == f'"{hashlib.md5(digests).hexdigest()}-2"'
    assert s3.get("mlpipeline", "k") == b"b" * (5 << 20) + b"last"
    assert code(complete((1, big), (2, last))) == (404, "NoSuchUpload")
    status, headers, data = call(s3, "GET", "/mlpipeline/k", query={"partNumber": "2"})
    assert (status, data, headers["x-amz-mp-parts-count"]) == (206, b"last", "2")
    s3.delete("mlpipeline", "k")
    wait_until(lambda: not running.files)


def test_buckets(running):
    s3 = running.s3()
    assert call(s3, "PUT", "/second")[0] == 200
    _, _, root = call(s3, "GET", "/")
    assert [b.findtext("{*}Name") for b in root.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Bucket")] == [
        "mlpipeline",
        "second",
    ]
    s3.put("second", "k", b"")
    assert code(call(s3, "DELETE", "/second")) == (409, "BucketNotEmpty")
    s3.delete("second", "k")
    assert call(s3, "DELETE", "/second")[0] == 204
    assert call(s3, "HEAD", "/second")[0] == 404
    assert call(s3, "HEAD", "/" + policy.DEFAULT_BUCKET)[0] == 200


def test_other_faults_are_internal_errors_and_the_store_goes_on(running):
    s3 = running.s3()
    s3.put("mlpipeline", "k", b"x")
    running.store._index.reader.close()
    assert code(call(s3, "GET", "/mlpipeline/k")) == (500, "InternalError")
    running.store._index.reader = running.store._index._connect()
    assert s3.get("mlpipeline", "k") == b"x"
