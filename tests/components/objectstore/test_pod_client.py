"""The S3 client that programs in pods use, against the store."""

import http.server
import os
import threading
import time

import pytest

from headrace.images import s3client
from headrace.images.s3client import S3, S3Error


@pytest.fixture
def s3(running):
    return running.s3()


def test_files_in_and_out(s3, tmp_path):
    source, target = tmp_path / "in", tmp_path / "a" / "b" / "out"
    source.write_bytes(os.urandom(3_000_000))
    s3.upload("mlpipeline", "models/ü +/m.bin", source, content_type="application/x-model")
    assert s3.head("mlpipeline", "models/ü +/m.bin")["content-type"] == "application/x-model"
    s3.download("mlpipeline", "models/ü +/m.bin", target)
    assert target.read_bytes() == source.read_bytes()
    assert [p.name for p in target.parent.iterdir()] == ["out"]
    assert s3.list("mlpipeline", "models/") == [("models/ü +/m.bin", 3_000_000)]
    s3.delete("mlpipeline", "models/ü +/m.bin")
    assert not s3.exists("mlpipeline", "models/ü +/m.bin")


@pytest.mark.parametrize("size", [0, 1])
def test_small_files(s3, tmp_path, size):
    (tmp_path / "in").write_bytes(b"x" * size)
    s3.upload("mlpipeline", "k", tmp_path / "in")
    s3.download("mlpipeline", "k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"x" * size


def test_large_files_go_in_parts(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(s3client, "MULTIPART_THRESHOLD", 6 << 20)
    monkeypatch.setattr(s3client, "PART_SIZE", 5 << 20)
    (tmp_path / "in").write_bytes(os.urandom((11 << 20) + 7))
    s3.upload("mlpipeline", "k", tmp_path / "in")
    assert s3.head("mlpipeline", "k")["etag"].endswith('-3"')
    s3.download("mlpipeline", "k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_long_listings(s3):
    for i in range(5):
        s3.put("mlpipeline", f"k{i}", b"")
    assert [k for k, _ in s3.list("mlpipeline")] == [f"k{i}" for i in range(5)]


def test_errors_carry_the_stores_code(s3, tmp_path):
    with pytest.raises(S3Error) as error:
        s3.download("mlpipeline", "none", tmp_path / "out")
    assert (error.value.code, error.value.status) == ("NoSuchKey", 404)
    assert [p.name for p in tmp_path.iterdir()] == ["objectstore"]
    with pytest.raises(S3Error, match="NoSuchBucket"):
        s3.list("none", "")


def test_nobody_there():
    s3 = S3("http://127.0.0.1:1", "a", "b", patience=0.3)
    began = time.monotonic()
    with pytest.raises(S3Error, match="Unreachable"):
        s3.get("b", "k")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("endpoint", ["", "ftp://x", "http://"])
def test_bad_endpoints(endpoint):
    with pytest.raises(S3Error, match="InvalidEndpoint"):
        S3(endpoint, "a", "b")


def test_from_the_environment(running):
    env = {"AWS_ENDPOINT_URL": running.endpoint, "AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "minio123"}
    s3 = S3.from_env(env, patience=1)
    s3.put("mlpipeline", "k", b"x")
    running.clients.append(s3)
    with pytest.raises(S3Error, match="AWS_ENDPOINT_URL"):
        S3.from_env({})


def test_proxies_are_ignored(running, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    running.s3().put("mlpipeline", "k", b"x")


class Flaky(http.server.BaseHTTPRequestHandler):
    """Answers what the test has put on its list, then all of the object."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.ranges.append(self.headers["range"])
        step = self.server.steps.pop(0) if self.server.steps else "rest"
        if step == "503":
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        data = self.server.data
        start = int((self.headers["range"] or "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("etag", '"e"')
        self.send_header("content-length", str(len(data) - start))
        self.end_headers()
        if step == "half":
            self.wfile.write(data[start : start + len(data) // 2])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, *_):
        return


def test_a_restart_in_the_middle_of_a_download(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    server.data, server.steps, server.ranges = os.urandom(2_000_000), ["503", "half", "503"], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        s3 = S3(f"http://127.0.0.1:{server.server_port}", "a", "b", patience=10)
        s3.download("bucket", "k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == server.data
        assert server.ranges == [None, None, "bytes=1000000-", "bytes=1000000-"]
    finally:
        s3.close()
        server.shutdown()
        thread.join()
        server.server_close()
