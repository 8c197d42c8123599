"""Unmodified boto3 and minio-py against the store."""

import io
import os
import socket
import urllib.request

import boto3
import minio
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from minio.commonconfig import REPLACE, ComposeSource, CopySource
from minio.deleteobjects import DeleteObject

pytestmark = pytest.mark.clients
BUCKET = "mlpipeline"
MIB = 1 << 20


def boto(running, **config):
    return boto3.client(
        "s3",
        endpoint_url=running.endpoint,
        aws_access_key_id="minio",
        aws_secret_access_key="minio123",
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, **config),
    )


@pytest.fixture
def s3(running):
    client = boto(running)
    yield client
    client.close()


@pytest.fixture
def mc(running):
    client = minio.Minio(running.endpoint.removeprefix("http://"), "minio", "minio123", secure=False)
    yield client
    client._http.clear()


def code(error):
    return error.value.response["Error"]["Code"]


def test_put_get_head_with_metadata(s3):
    s3.put_object(
        Bucket=BUCKET,
        Key="a/ü +&.txt",
        Body=b"hello",
        ContentType="text/plain",
        CacheControl="no-store",
        Metadata={"run": "7"},
        Tagging="team=a&x=",
    )
    got = s3.get_object(Bucket=BUCKET, Key="a/ü +&.txt")
    assert got["Body"].read() == b"hello"
    assert (got["ContentType"], got["CacheControl"], got["Metadata"], got["TagCount"]) == (
        "text/plain",
        "no-store",
        {"run": "7"},
        2,
    )
    assert s3.head_object(Bucket=BUCKET, Key="a/ü +&.txt")["ContentLength"] == 5
    assert s3.get_object_tagging(Bucket=BUCKET, Key="a/ü +&.txt")["TagSet"] == [
        {"Key": "team", "Value": "a"},
        {"Key": "x", "Value": ""},
    ]
    s3.put_object_tagging(Bucket=BUCKET, Key="a/ü +&.txt", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    assert s3.get_object_tagging(Bucket=BUCKET, Key="a/ü +&.txt")["TagSet"] == [{"Key": "k", "Value": "v"}]
    s3.delete_object_tagging(Bucket=BUCKET, Key="a/ü +&.txt")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="a/ü +&.txt")["TagSet"] == []


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums(s3, algorithm):
    put = s3.put_object(Bucket=BUCKET, Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello"
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def test_large_files_in_parts(s3, tmp_path):
    data = os.urandom(MIB) * 21
    (tmp_path / "file").write_bytes(data)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    s3.upload_file(str(tmp_path / "file"), BUCKET, "big", Config=config)
    head = s3.head_object(Bucket=BUCKET, Key="big")
    assert head["ContentLength"] == len(data)
    assert head["ETag"].endswith('-3"')
    s3.download_file(BUCKET, "big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    s3.copy({"Bucket": BUCKET, "Key": "big"}, BUCKET, "copy", Config=config)
    got = s3.get_object(Bucket=BUCKET, Key="copy", Range=f"bytes={8 * MIB - 2}-{8 * MIB + 1}")
    assert got["Body"].read() == data[8 * MIB - 2 : 8 * MIB + 2]
    assert got["ContentRange"] == f"bytes {8 * MIB - 2}-{8 * MIB + 1}/{len(data)}"


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("SHA256", "COMPOSITE")]
)
def test_checksums_of_parts(s3, algorithm, kind):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = []
    for number, data in enumerate((b"a" * 5 * MIB, b"b"), 1):
        part = s3.upload_part(
            Bucket=BUCKET,
            Key="k",
            UploadId=upload["UploadId"],
            PartNumber=number,
            Body=data,
            ChecksumAlgorithm=algorithm,
        )
        name = f"Checksum{algorithm}"
        parts.append({"PartNumber": number, "ETag": part["ETag"], name: part[name]})
    listed = s3.list_parts(Bucket=BUCKET, Key="k", UploadId=upload["UploadId"])
    assert [p["ETag"] for p in listed["Parts"]] == [p["ETag"] for p in parts]
    assert [u["Key"] for u in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["k"]
    done = s3.complete_multipart_upload(
        Bucket=BUCKET, Key="k", UploadId=upload["UploadId"], MultipartUpload={"Parts": parts}
    )
    assert done["ChecksumType"] == kind
    got = s3.get_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")
    assert len(got["Body"].read()) == 5 * MIB + 1
    assert got[f"Checksum{algorithm}"] == done[f"Checksum{algorithm}"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_abort(s3, running):
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="k")["UploadId"]
    s3.upload_part(Bucket=BUCKET, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    s3.abort_multipart_upload(Bucket=BUCKET, Key="k", UploadId=upload)
    with pytest.raises(ClientError) as error:
        s3.list_parts(Bucket=BUCKET, Key="k", UploadId=upload)
    assert code(error) == "NoSuchUpload"


def test_listing(s3):
    for key in ("a", "a/b", "a/b/x", "d/", "é +"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    for name in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(name).paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
        assert [o["Key"] for page in pages for o in page["Contents"]] == ["a", "a/b", "a/b/x", "d/", "é +"]
        page = getattr(s3, name)(Bucket=BUCKET, Delimiter="/")
        assert [o["Key"] for o in page["Contents"]] == ["a", "é +"]
        assert [p["Prefix"] for p in page["CommonPrefixes"]] == ["a/", "d/"]
    assert s3.list_objects_v2(Bucket=BUCKET, StartAfter="a/b/x")["KeyCount"] == 2
    assert s3.list_objects_v2(Bucket=BUCKET, Prefix="none")["KeyCount"] == 0


def test_conditions(s3):
    etag = s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=BUCKET, Key="k", Body=b"2", IfNoneMatch="*")
    assert code(error) == "PreconditionFailed"
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"3", IfMatch=etag)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=BUCKET, Key="k", IfMatch=etag)
    assert code(error) == "PreconditionFailed"
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=BUCKET, Key="k", IfNoneMatch=s3.head_object(Bucket=BUCKET, Key="k")["ETag"])
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 304


def test_copy_and_replace_metadata(s3):
    s3.put_object(Bucket=BUCKET, Key="k", Body=b"1", Metadata={"a": "1"})
    s3.copy_object(Bucket=BUCKET, Key="l", CopySource={"Bucket": BUCKET, "Key": "k"})
    assert s3.head_object(Bucket=BUCKET, Key="l")["Metadata"] == {"a": "1"}
    s3.copy_object(Bucket=BUCKET, Key="k", CopySource=f"{BUCKET}/k", Metadata={"a": "2"}, MetadataDirective="REPLACE")
    assert s3.head_object(Bucket=BUCKET, Key="k")["Metadata"] == {"a": "2"}
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=BUCKET, Key="k", CopySource=f"{BUCKET}/k")
    assert code(error) == "InvalidRequest"


def test_delete_many(s3):
    for i in range(5):
        s3.put_object(Bucket=BUCKET, Key=f"k{i}", Body=b"")
    objects = [{"Key": f"k{i}"} for i in range(6)]
    assert len(s3.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})["Deleted"]) == 6
    assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0


def test_buckets(s3):
    s3.create_bucket(Bucket="second", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [BUCKET, "second"]
    assert s3.get_bucket_location(Bucket="second")["LocationConstraint"] is None
    s3.head_bucket(Bucket="second")
    s3.delete_bucket(Bucket="second")
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket="second", Key="k", Body=b"")
    assert code(error) == "NoSuchBucket"


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_presigned_urls(running, version):
    """boto3's default presigns with version 2."""
    client = boto(running, **({"signature_version": version} if version else {}))
    put = client.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "a b/ü"})
    request = urllib.request.Request(put, b"presigned", {"content-type": ""}, method="PUT")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(request).close()
    params = {"Bucket": BUCKET, "Key": "a b/ü", "ResponseContentType": "text/x"}
    get = client.generate_presigned_url("get_object", Params=params)
    with opener.open(get) as response:
        assert (response.read(), response.headers["content-type"]) == (b"presigned", "text/x")
    with pytest.raises(urllib.error.HTTPError) as error:
        opener.open(get.replace("text", "html"))
    assert error.value.code == 403
    error.value.close()
    client.close()


def test_virtual_host_style(running, monkeypatch):
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: resolve("127.0.0.1" if "localhost" in host else host, *a, **k)
    )
    running.endpoint = running.endpoint.replace("127.0.0.1", "localhost")
    client = boto(running, s3={"addressing_style": "virtual"})
    seen = []
    client.meta.events.register("before-send.s3.*", lambda request, **_: seen.append(request.url))
    client.put_object(Bucket=BUCKET, Key="v/k", Body=b"1")
    assert client.get_object(Bucket=BUCKET, Key="v/k")["Body"].read() == b"1"
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
    assert all(url.startswith("http://mlpipeline.localhost") for url in seen)
    client.close()


def test_minio_py(mc, tmp_path):
    assert mc.bucket_exists(BUCKET)
    assert not mc.bucket_exists("nobody")
    mc.make_bucket("second")
    assert [b.name for b in mc.list_buckets()] == [BUCKET, "second"]
    mc.remove_bucket("second")
    mc.put_object(BUCKET, "d/ü +", io.BytesIO(b"hello"), 5, content_type="text/plain", metadata={"a": "1"})
    stat = mc.stat_object(BUCKET, "d/ü +")
    assert (stat.size, stat.content_type, stat.metadata["x-amz-meta-a"]) == (5, "text/plain", "1")
    data = os.urandom(11 * MIB)
    mc.put_object(BUCKET, "big", io.BytesIO(data), -1, part_size=5 * MIB)
    mc.fget_object(BUCKET, "big", str(tmp_path / "big"))
    assert (tmp_path / "big").read_bytes() == data
    assert [o.object_name for o in mc.list_objects(BUCKET)] == ["big", "d/"]
    assert [o.object_name for o in mc.list_objects(BUCKET, recursive=True, use_api_v1=True)] == ["big", "d/ü +"]
    mc.copy_object(BUCKET, "copy", CopySource(BUCKET, "big"))
    mc.compose_object(BUCKET, "both", [ComposeSource(BUCKET, "big"), ComposeSource(BUCKET, "d/ü +")])
    assert mc.stat_object(BUCKET, "both").size == len(data) + 5
    mc.copy_object(BUCKET, "d/ü +", CopySource(BUCKET, "d/ü +"), metadata={"b": "2"}, metadata_directive=REPLACE)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        mc.presigned_get_object(BUCKET, "d/ü +")
    ) as response:
        assert response.read() == b"hello"
    assert list(mc.remove_objects(BUCKET, [DeleteObject(k) for k in ("big", "copy", "both", "d/ü +")])) == []
    with pytest.raises(minio.error.S3Error) as error:
        mc.get_object(BUCKET, "big")
    assert error.value.code == "NoSuchKey"
    with pytest.raises(minio.error.S3Error) as error:
        mc.get_bucket_policy(BUCKET)
    assert error.value.code == "NotImplemented"


def test_a_refused_upload_does_not_harm_the_next_request(running):
    s3 = boto(running, read_timeout=5)
    for _ in range(2):
        with pytest.raises(ClientError) as error:
            s3.put_object(Bucket="nowhere", Key="a", Body=b"x" * 1000)
        assert code(error) == "NoSuchBucket"
        assert s3.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    s3.close()
