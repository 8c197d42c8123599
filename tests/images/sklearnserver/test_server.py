"""The model server as a pod starts it: a process, spoken to over HTTP, with models trained on real data."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = """
import sys, json, joblib, numpy as np, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC
root = sys.argv[1]
X, y = load_digits(return_X_y=True)
a, b, c, d = train_test_split(X, y, random_state=0)
import os
def save(name, model, file="model.joblib"):
    os.makedirs(f"{root}/{name}"); joblib.dump(model, f"{root}/{name}/{file}")
svc = SVC(gamma=0.001, probability=True, random_state=0).fit(a, c)
save("digits", svc)
save("words", LogisticRegression(max_iter=2000).fit(a, np.array([f"digit-{n}" for n in c])), "model.pkl")
frame = pd.DataFrame({"colour": ["red", "blue", "red", "blue"], "size": [1, 2, 3, 4]})
save("table", make_pipeline(make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"),
     LogisticRegression()).fit(frame, [0, 1, 0, 1]), "model.pickle")
save("dict", {"not": "a model"})
save("two", svc); joblib.dump(svc, f"{root}/two/other.pkl")
json.dump({"rows": b[:200].tolist(), "labels": d[:200].tolist(), "said": svc.predict(b[:200]).tolist()},
          open(f"{root}/digits.json", "w"))
"""


@pytest.fixture(scope="session")
def models(sklearn_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sklearn_python, "-c", TRAIN, str(root)], check=True, timeout=120)
    return root


@pytest.fixture(scope="session")
def digits(models: Path) -> dict[str, Any]:
    return json.loads((models / "digits.json").read_text())


class Server:
    def __init__(self, python: str, images: Path, name: str, folder: Path, env: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                python,
                str(images / "sklearnserver"),
                "--model_name",
                name,
                "--model_dir",
                str(folder),
                "--http_port",
                str(self.port),
            ],
            env={"PATH": "/usr/bin:/bin", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> Server:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.ask("GET", "/")
                return self
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.process.communicate(timeout=5))

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def raw(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, int]:
        """A binary answer and how much of it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            assert answer.headers["content-type"] == "application/octet-stream"
            return answer.read(), int(answer.headers["inference-header-content-length"])
        finally:
            connection.close()

    def accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture(scope="session")
def server(sklearn_python: str, images: Path, models: Path):
    running = Server(sklearn_python, images, "digits", models / "digits").wait()
    yield running
    assert running.stop() == 0


def tensor(rows: list[Any], datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    flat = [v for row in rows for v in row]
    return {"name": "input-0", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": flat, **more}


def test_v1_predicts_held_out_digits_as_the_model_does(server: Server, digits: dict[str, Any]) -> None:
    status, answer = server.ask("POST", "/v1/models/digits:predict", {"instances": digits["rows"]})
    assert status == 200
    assert answer == {"predictions": digits["said"]}
    right = sum(a == b for a, b in zip(answer["predictions"], digits["labels"], strict=True))
    assert right / len(digits["labels"]) > 0.95


def test_v1_accepts_inputs_and_any_content_type(server: Server, digits: dict[str, Any]) -> None:
    body = {"inputs": digits["rows"][:2]}
    for kind in ("application/json", "application/x-www-form-urlencoded"):
        assert server.ask("POST", "/v1/models/digits:predict", body, {"Content-Type": kind}) == (
            200,
            {"predictions": digits["said"][:2]},
        )


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "INT64", "UINT8"])
def test_v2_reads_tensors_row_by_row(server: Server, digits: dict[str, Any], datatype: str) -> None:
    rows = [[int(v) for v in row] for row in digits["rows"][:3]]
    status, answer = server.ask("POST", "/v2/models/digits/infer", {"id": "x1", "inputs": [tensor(rows, datatype)]})
    assert status == 200
    assert answer["model_name"] == "digits"
    assert answer["id"] == "x1"
    assert answer["outputs"] == [
        {"name": "output-0", "shape": [3], "datatype": "INT64", "parameters": None, "data": digits["said"][:3]}
    ]


def test_v2_takes_nested_data_and_makes_an_id(server: Server, digits: dict[str, Any]) -> None:
    nested = {**tensor(digits["rows"][:2]), "data": digits["rows"][:2]}
    ids = {server.ask("POST", "/v2/models/digits/infer", {"inputs": [nested]})[1]["id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(ids)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/", {"status": "alive"}),
        ("/v1/models", {"models": ["digits"]}),
        ("/v1/models/digits", {"name": "digits", "ready": True}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits", {"name": "digits", "platform": "", "inputs": [], "outputs": []}),
    ],
)
def test_it_says_that_it_is_well(server: Server, path: str, answer: Any) -> None:
    assert server.ask("GET", path) == (200, answer)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/v1/models/nope:predict", {"instances": [[1]]}, 404, "Model with name nope does not exist."),
        ("GET", "/v1/models/nope", None, 404, "Model with name nope does not exist."),
        ("POST", "/v2/models/nope/infer", {"inputs": []}, 404, "Model with name nope does not exist."),
        ("POST", "/v1/models/digits:predict", b"{not json", 400, "Unrecognized request format"),
        ("POST", "/v1/models/digits:predict", b"[1]", 400, "expected a JSON object"),
        ("POST", "/v1/models/digits:predict", b'{"instances":' + b"[" * 100_000, 400, "recursion"),
        ("POST", "/v2/models/digits/infer", b'{"inputs":' + b"[" * 100_000, 422, ""),
        ("POST", "/v1/models/digits:predict", {"rows": [[1]]}, 400, '"instances"'),
        ("POST", "/v1/models/digits:predict", {"instances": 3}, 400, "to be a list"),
        ("POST", "/v1/models/digits:predict", {"instances": [[1, 2], [1]]}, 400, "differ in length"),
        ("POST", "/v1/models/digits:predict", {"instances": [[1, 2]]}, 400, "expecting 64 features"),
        ("POST", "/v1/models/digits:predict", {"instances": []}, 400, "Expected 2D array"),
        ("POST", "/v1/models/digits:predict", {"instances": [["a"] * 64]}, 400, "could not convert string"),
        ("POST", "/v1/models/digits:explain", {"instances": [[1]]}, 501, "no explainer"),
        ("GET", "/v1/models/digits:predict", None, 405, "takes POST"),
        ("POST", "/v1/models/digits", {}, 405, "takes GET"),
        ("POST", "/v2/models/digits/infer", b"{not json", 422, "not valid JSON"),
        ("POST", "/v2/models/digits/infer", {"inputs": [{"name": "x"}]}, 422, "shape"),
        ("POST", "/v2/models/digits/infer", {"inputs": []}, 400, "no tensor"),
        ("POST", "/v2/models/digits/infer", {"inputs": [tensor([[1, 2]], "FLOAT")]}, 400, "invalid datatype FLOAT"),
        ("POST", "/v2/models/digits/infer", {"inputs": [{**tensor([[1, 2]]), "shape": [3, 3]}]}, 400, "do not fill"),
        ("POST", "/v2/models/digits/infer", {"inputs": [{**tensor([[1, 2]]), "data": None}]}, 400, "'data' field"),
        ("POST", "/v2/models/digits/infer", {"inputs": [tensor([["a"]], "FP32")]}, 400, "is not FP32"),
        ("POST", "/v2/models/digits/infer", {"inputs": [tensor([[1]]), tensor([[1]])]}, 400, "takes one"),
        ("POST", "/v2/models/digits/infer", {"inputs": [tensor([[0] * 64])], "outputs": [{"name": "x"}]}, 400, "'x'"),
        ("POST", "/v2/models/digits/versions/2/infer", {}, 501, "versioning"),
        ("GET", "/nowhere", None, 404, "/v1/models/digits:predict"),
    ],
)
def test_bad_requests_get_a_sentence(
    server: Server, *, method: str, path: str, body: Any, status: int, words: str
) -> None:
    code, answer = server.ask(method, path, body)
    assert (code, list(answer)) == (status, ["error"])
    assert words in answer["error"]
    assert server.ask("GET", "/v2/health/ready")[0] == 200


def packed(rows: list[Any], **request: Any) -> tuple[bytes, dict[str, str]]:
    """A V2 request with FP32 tensors in binary form, and its headers."""
    data = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    given = {**tensor(rows, "FP32"), "parameters": {"binary_data_size": len(data)}}
    del given["data"]
    head = json.dumps({"inputs": [given], **request}).encode()
    return head + data, {"Inference-Header-Content-Length": str(len(head))}


def test_v2_binary_tensors(server: Server, digits: dict[str, Any]) -> None:
    body, headers = packed(digits["rows"][:3])
    status, answer = server.ask("POST", "/v2/models/digits/infer", body, headers)
    assert (status, answer["outputs"][0]["data"]) == (200, digits["said"][:3])
    for request in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "output-0", "parameters": {"binary_data": True}}]},
    ):
        body, headers = packed(digits["rows"][:3], **request)
        said, length = server.raw("/v2/models/digits/infer", body, headers)
        answer = json.loads(said[:length])
        assert answer["outputs"][0]["parameters"] == {"binary_data_size": 24}
        assert list(struct.unpack("<3q", said[length:])) == digits["said"][:3]


@pytest.mark.parametrize(
    ("cut", "length", "words"),
    [
        (4, None, "but the request ends before"),
        (0, "9999999", "is not the length of the JSON part"),
        (0, "x", "is not the length of the JSON part"),
    ],
)
def test_binary_tensors_that_do_not_fit(
    server: Server, digits: dict[str, Any], cut: int, length: str | None, words: str
) -> None:
    body, headers = packed(digits["rows"][:1])
    given = {**headers, **({"Inference-Header-Content-Length": length} if length else {})}
    status, answer = server.ask("POST", "/v2/models/digits/infer", body[: len(body) - cut], given)
    assert status == 400
    assert words in answer["error"]


def test_a_large_request_arrives_whole(server: Server, digits: dict[str, Any]) -> None:
    rows = digits["rows"] * 50  # several megabytes: more than one chunk
    status, answer = server.ask("POST", "/v1/models/digits:predict", {"instances": rows})
    assert status == 200
    assert answer["predictions"] == digits["said"] * 50


def test_probabilities_when_asked_by_environment(
    sklearn_python: str, images: Path, models: Path, digits: dict[str, Any]
) -> None:
    running = Server(sklearn_python, images, "d", models / "digits", {"PREDICT_PROBA": "true"}).wait()
    try:
        rows = digits["rows"][:2]
        _, v1 = running.ask("POST", "/v1/models/d:predict", {"instances": rows})
        assert [len(p) for p in v1["predictions"]] == [10, 10]
        assert all(abs(sum(p) - 1) < 1e-6 for p in v1["predictions"])
        _, v2 = running.ask("POST", "/v2/models/d/infer", {"inputs": [tensor(rows)]})
        assert v2["outputs"][0]["shape"] == [2, 10]
        assert len(v2["outputs"][0]["data"]) == 20
    finally:
        running.stop()


def test_strings_and_tables(sklearn_python: str, images: Path, models: Path, digits: dict[str, Any]) -> None:
    running = Server(sklearn_python, images, "words", models / "words").wait()
    try:
        row = digits["rows"][:1]
        _, answer = running.ask("POST", "/v1/models/words:predict", {"instances": row})
        assert answer["predictions"][0].startswith("digit-")
        _, answer = running.ask("POST", "/v2/models/words/infer", {"inputs": [tensor(row)]})
        assert answer["outputs"][0]["datatype"] == "BYTES"
        assert answer["outputs"][0]["data"][0].startswith("digit-")
    finally:
        running.stop()
    running = Server(sklearn_python, images, "table", models / "table").wait()
    try:
        rows = [{"colour": "red", "size": 1}, {"colour": "blue", "size": 2}]
        assert running.ask("POST", "/v1/models/table:predict", {"instances": rows}) == (200, {"predictions": [0, 1]})
        columns = [
            {"name": "colour", "shape": [2], "datatype": "BYTES", "data": ["red", "blue"]},
            {"name": "size", "shape": [2], "datatype": "INT64", "data": [1, 2]},
        ]
        request = {"parameters": {"content_type": "pd"}, "inputs": columns}
        assert running.ask("POST", "/v2/models/table/infer", request)[1]["outputs"][0]["data"] == [0, 1]
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("dict", "holds a dict, which has no predict method"),
        ("two", "More than one model file"),
        ("missing", "cannot be read: No such file or directory"),
        ("empty", "it is empty"),
        ("broken", "(is this a file that joblib or pickle wrote?)"),
        ("foreign", "it needs the Python module 'xgb_absent'"),
    ],
)
def test_a_model_that_does_not_load_ends_the_process_with_one_line(
    sklearn_python: str, images: Path, models: Path, folder: str, words: str
) -> None:
    path = models / folder
    if folder in {"empty", "broken", "foreign"}:
        path.mkdir(exist_ok=True)
    if folder == "broken":
        (path / "model.joblib").write_bytes(b"this is not a pickle")
    if folder == "foreign":
        (path / "model.pkl").write_bytes(b"cxgb_absent\nBooster\n.")
    running = Server(sklearn_python, images, "m", path)
    _, errors = running.process.communicate(timeout=60)
    assert running.process.returncode == 1
    assert words in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_request_in_flight_is_finished_on_sigterm(sklearn_python: str, images: Path, models: Path) -> None:
    running = Server(sklearn_python, images, "d", models / "digits").wait()
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    body = json.dumps({"instances": [[0] * 64]}).encode()
    connection.putrequest("POST", "/v1/models/d:predict")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Expect", "100-continue")
    connection.endheaders(body[:10])
    assert connection.sock.recv(1, socket.MSG_PEEK), "it says that it waits for the rest"
    running.process.send_signal(signal.SIGTERM)
    while running.accepts():
        time.sleep(0.01)
    connection.send(body[10:])
    assert connection.getresponse().status == 200
    connection.close()
    assert running.stop() == 0
