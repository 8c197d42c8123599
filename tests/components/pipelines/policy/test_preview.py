"""What is shown of an artifact, from its record or its first bytes."""

from __future__ import annotations

import base64
import json

import pytest

from headrace.components.pipelines.policy import preview

MATRIX = {
    "annotationSpecs": [{"displayName": "cat"}, {"displayName": "dog"}],
    "rows": [{"row": [8, 2]}, {"row": [1, 9]}],
}
CURVE = [{"confidenceThreshold": 0.5, "recall": 0.8, "falsePositiveRate": 0.5}, {"recall": "x"}, 3]


def shown(name, kind, data, size=None):
    return preview.of_bytes(name, kind, data, len(data) if size is None else size)


def test_metrics_are_the_numbers_of_the_metadata():
    metadata = {"accuracy": 0.5, "count": 3, "good": True, "note": "n", "bad": float("nan")}
    assert preview.of_record("system.Metrics", metadata) == {
        "kind": "metrics",
        "metrics": {"accuracy": 0.5, "count": 3},
    }


@pytest.mark.parametrize("wrapped", [False, True])
def test_classification(wrapped):
    metadata = {
        "confusionMatrix": {"struct": MATRIX} if wrapped else MATRIX,
        "confidenceMetrics": {"confidenceMetrics": CURVE} if wrapped else CURVE,
    }
    found = preview.of_record("system.ClassificationMetrics", metadata)
    assert found["confusion_matrix"] == {"labels": ["cat", "dog"], "rows": [[8, 2], [1, 9]]}
    assert found["roc"] == [{"threshold": 0.5, "false_positive_rate": 0.5, "recall": 0.8}]


@pytest.mark.parametrize(
    "matrix",
    [
        None,
        3,
        {"annotationSpecs": [], "rows": []},
        {**MATRIX, "rows": [{"row": [1]}]},
        {**MATRIX, "rows": [{"row": "ab"}]},
    ],
)
def test_what_has_not_the_shape_of_a_matrix_is_none(matrix):
    found = preview.of_record("system.ClassificationMetrics", {"confusionMatrix": matrix, "confidenceMetrics": "x"})
    assert found == {"kind": "classification", "confusion_matrix": None, "roc": None}


def test_a_model_is_looked_at_by_its_bytes():
    assert preview.of_record("system.Model", {"accuracy": 1}) is None


def test_tables():
    assert shown("a.csv", "system.Artifact", b"a,b\n1,2\n") == {
        "size": 8,
        "truncated": False,
        "kind": "table",
        "columns": ["a", "b"],
        "rows": [["1", "2"]],
    }
    assert shown("a.tsv", "system.Artifact", b"a\tb\n1\t2\n")["columns"] == ["a", "b"]
    assert shown("data", "system.Dataset", b"a;b\n1;2")["rows"] == [["1", "2"]]
    assert shown("data", "system.Dataset", b"plain words")["kind"] == "text"


def test_a_table_that_is_cut_loses_its_last_line():
    found = shown("a.csv", "system.Artifact", b"a,b\n1,2\n3,", size=100)
    assert (found["rows"], found["truncated"]) == ([["1", "2"]], True)


def test_a_table_has_bounds():
    long = "\n".join(",".join("x" * 2000 for _ in range(60)) for _ in range(200)).encode()
    found = shown("a.csv", "system.Artifact", long)
    assert found["truncated"]
    assert len(found["rows"]) == preview.MAX_ROWS
    assert all(len(row) == preview.MAX_COLUMNS for row in found["rows"])
    assert max(len(cell) for row in found["rows"] for cell in row) == preview.MAX_CELL


def test_text_html_markdown_and_what_is_none():
    assert shown("x", "system.Artifact", "né".encode())["text"] == "né"
    assert shown("x", "system.HTML", b"<b>")["kind"] == "html"
    assert shown("x", "system.Markdown", b"# a")["kind"] == "markdown"
    assert shown("x", "system.Model", b"\x80\x04\x95") == {"size": 3, "truncated": False, "kind": "binary"}
    assert shown("x", "system.Model", b"a\x00b")["kind"] == "binary"
    assert shown("x", "system.Artifact", b"") == {"size": 0, "truncated": False, "kind": "text", "text": ""}


def test_a_character_that_is_cut_in_two_is_left_out():
    assert shown("x", "system.Artifact", "aé".encode()[:-1], size=3)["text"] == "a"
    assert shown("x", "system.Artifact", "aé".encode()[:-1])["kind"] == "binary"


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff...", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF....WEBPVP8 ", "image/webp"),
    ],
)
def test_images_come_whole_or_not_at_all(data, media):
    assert shown("x", "system.Artifact", data) == {
        "size": len(data),
        "truncated": False,
        "kind": "image",
        "media_type": media,
        "data": base64.b64encode(data).decode(),
    }
    assert "data" not in shown("x", "system.Artifact", data, size=10_000)


def test_svg_is_text_for_it_can_hold_a_program():
    assert shown("x.svg", "system.Artifact", b"<svg/>")["kind"] == "text"


def test_what_components_of_kfp_1_ask_to_be_shown():
    outputs = [
        {"type": "confusion_matrix", "storage": "inline", "source": "a,a,3\na,b,1\nb,b,2\n", "labels": ["a", "b"]},
        {"type": "roc", "storage": "inline", "source": "0,0,1\n0.5,0.8,0.5\nx,y,z\n"},
        {"type": "table", "storage": "inline", "source": "1,2\n3,4\n", "header": ["a", "b"]},
        {"type": "markdown", "storage": "inline", "source": "# T"},
        {"type": "web-app", "source": "minio://b/k"},
        3,
    ]
    found = shown("mlpipeline-ui-metadata", "system.Artifact", json.dumps({"outputs": outputs}).encode())
    assert found["kind"] == "visualizations"
    assert found["items"] == [
        {"type": "confusion_matrix", "confusion_matrix": {"labels": ["a", "b"], "rows": [[3.0, 1.0], [0.0, 2.0]]}},
        {
            "type": "roc",
            "roc": [
                {"threshold": 1.0, "false_positive_rate": 0.0, "recall": 0.0},
                {"threshold": 0.5, "false_positive_rate": 0.5, "recall": 0.8},
            ],
        },
        {"type": "table", "table": {"columns": ["a", "b"], "rows": [["1", "2"], ["3", "4"]]}},
        {"type": "markdown", "text": "# T"},
        {"type": "web-app", "source": "minio://b/k"},
    ]
    assert shown("mlpipeline-ui-metadata", "system.Artifact", b"{}")["kind"] == "text"
