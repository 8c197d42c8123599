"""What a person wants to see of an artifact, as data within bounds: metrics, curves, tables, text, small images.

Decided from the artifact's record and the first bytes of its object alone.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BYTES, MAX_BYTES = 256 << 10, 1 << 20
MAX_ROWS, MAX_COLUMNS, MAX_CELL = 100, 50, 1000
MAX_CLASSES, MAX_POINTS, MAX_VISUALIZATIONS = 100, 2000, 50
_METRICS = frozenset({"system.Metrics", "system.SlicedClassificationMetrics"})
_CURVES = "system.ClassificationMetrics"
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_SUFFIXES = {".csv": ",", ".tsv": "\t"}
_TEXTS = {"system.HTML": "html", "system.Markdown": "markdown"}
_UI_METADATA = frozenset({"mlpipeline-ui-metadata", "mlpipeline_ui_metadata"})
UI_METADATA = "visualizations"

Json = Any


def of_record(kind: str, metadata: Mapping[str, Json]) -> dict[str, Json] | None:
    """What the record itself shows; None when the bytes must be looked at."""
    if kind == _CURVES:
        return {"kind": "classification", "confusion_matrix": confusion(metadata), "roc": roc(metadata)}
    if kind in _METRICS:
        numbers = {k: v for k, v in metadata.items() if _number(v) is not None}
        return {"kind": "metrics", "metrics": numbers}
    return None


def shown_as(name: str, kind: str, head: bytes) -> str:
    """The media type under which a browser may show an object that begins so; "" for what it is not to show."""
    image = _image(head)
    if image:
        return image
    return "text/html; charset=utf-8" if kind == "system.HTML" or name.lower().endswith((".html", ".htm")) else ""


def of_bytes(name: str, kind: str, head: bytes, size: int) -> dict[str, Json]:
    """What the first bytes of an object of `size` show."""
    whole = len(head) >= size
    result: dict[str, Json] = {"size": size, "truncated": not whole}
    image = _image(head)
    if image:
        shown = {"data": base64.b64encode(head).decode()} if whole else {}
        return result | {"kind": "image", "media_type": image} | shown
    text = _text(head, whole=whole)
    if text is None:
        return result | {"kind": "binary"}
    if name in _UI_METADATA and whole:
        found = _visualizations(text)
        if found is not None:
            return result | {"kind": UI_METADATA, "items": found}
    delimiter = next((d for suffix, d in _SUFFIXES.items() if name.lower().endswith(suffix)), "")
    if not delimiter and kind == "system.Dataset":
        delimiter = _guess(text)
    if delimiter:
        table = _table(text, delimiter, whole=whole)
        if table is not None:
            return result | {"kind": "table"} | table
    return result | {"kind": _TEXTS.get(kind) or _named(name), "text": text}


def _named(name: str) -> str:
    """What text is by what it is called."""
    suffix = name.lower().rpartition(".")[2]
    return {"html": "html", "htm": "html", "md": "markdown"}.get(suffix, "text")


def confusion(metadata: Mapping[str, Json]) -> dict[str, Json] | None:
    """Labels and rows (what is true by what was predicted); None when there is no matrix of that shape."""
    value = _unwrap(metadata.get("confusionMatrix"))
    if not isinstance(value, dict):
        return None
    labels = [_label(spec) for spec in _list(value.get("annotationSpecs"))]
    rows = [_row(entry) for entry in _list(value.get("rows"))]
    fits = len(rows) == len(labels) and all(row is not None and len(row) == len(labels) for row in rows)
    return {"labels": labels, "rows": rows} if labels and len(labels) <= MAX_CLASSES and fits else None


def roc(metadata: Mapping[str, Json]) -> list[dict[str, float]] | None:
    """Points of the curve by their thresholds; None when there is none."""
    value = _unwrap(metadata.get("confidenceMetrics"))
    if isinstance(value, dict):
        value = value.get("confidenceMetrics")
    points = []
    for entry in _list(value)[:MAX_POINTS]:
        if not isinstance(entry, dict):
            continue
        rate, recall = _number(entry.get("falsePositiveRate", 0)), _number(entry.get("recall", 0))
        threshold = _number(entry.get("confidenceThreshold", 0))
        if rate is not None and recall is not None:
            points.append({"threshold": threshold or 0.0, "false_positive_rate": rate, "recall": recall})
    return points or None


def _image(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((media for magic, media in _IMAGES.items() if head.startswith(magic)), "")


def _text(head: bytes, *, whole: bool) -> str | None:
    if b"\x00" in head:
        return None
    for cut in range(1 if whole else 4):  # the last character may be cut in two
        try:
            return head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
    return None


def _guess(text: str) -> str:
    first = text.partition("\n")[0]
    return next((d for d in (",", "\t", ";") if d in first), "")


def _table(text: str, delimiter: str, *, whole: bool) -> dict[str, Json] | None:
    if not whole:
        text = text[: text.rfind("\n") + 1]  # the last line may be cut
    try:
        rows = list(islice(csv.reader(io.StringIO(text), delimiter=delimiter), MAX_ROWS + 2))
    except csv.Error:
        return None
    if not rows:
        return None
    wide = max(len(row) for row in rows) > MAX_COLUMNS
    cells = [[cell[:MAX_CELL] for cell in row[:MAX_COLUMNS]] for row in rows]
    more = len(cells) > MAX_ROWS + 1 or wide
    return {"columns": cells[0], "rows": cells[1 : MAX_ROWS + 1]} | ({"truncated": True} if more else {})


def _visualizations(text: str) -> list[dict[str, Json]] | None:
    """The outputs that a component of kfp 1 asks to be shown (mlpipeline-ui-metadata)."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if not isinstance(outputs, list):
        return None
    return [_visualization(entry) for entry in outputs[:MAX_VISUALIZATIONS] if isinstance(entry, dict)]


def _visualization(entry: dict[str, Json]) -> dict[str, Json]:
    kind, source = str(entry.get("type", "")), entry.get("source")
    shown: dict[str, Json] = {"type": kind}
    if entry.get("storage") != "inline" or not isinstance(source, str):
        return shown | {"source": source}  # it lies elsewhere; whoever looks may read it there
    if kind == "confusion_matrix":
        return shown | {"confusion_matrix": _matrix_of(source, entry.get("labels"))}
    if kind == "roc":
        rows = [row for row in csv.reader(io.StringIO(source)) if len(row) >= 3][:MAX_POINTS]
        points = []
        for row in rows:
            rate, recall, threshold = (_number_of(cell) for cell in row[:3])
            if rate is not None and recall is not None:
                points.append({"threshold": threshold or 0.0, "false_positive_rate": rate, "recall": recall})
        return shown | {"roc": points}
    if kind == "table":
        table = _table(source, ",", whole=True) or {"columns": [], "rows": []}
        header = entry.get("header")
        if isinstance(header, list):
            rows = [table["columns"], *table["rows"]] if table["columns"] else []
            table |= {"columns": [str(cell) for cell in header], "rows": rows[:MAX_ROWS]}
        return shown | {"table": table}
    return shown | {"text": source}


def _matrix_of(source: str, labels: Json) -> dict[str, Json] | None:
    """From lines `true,predicted,count`."""
    lines = [row for row in csv.reader(io.StringIO(source)) if len(row) == 3]
    names = [str(label) for label in labels] if isinstance(labels, list) else sorted({row[0] for row in lines})
    if not names or len(names) > MAX_CLASSES:
        return None
    place = {name: index for index, name in enumerate(names)}
    rows = [[0.0] * len(names) for _ in names]
    for true, predicted, count in lines:
        if true in place and predicted in place:
            rows[place[true]][place[predicted]] = _number_of(count) or 0.0
    return {"labels": names, "rows": rows}


def _unwrap(value: Json) -> Json:
    """Older clients wrap structures under `struct`."""
    return value["struct"] if isinstance(value, dict) and set(value) == {"struct"} else value


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _label(spec: Json) -> str:
    return str(spec.get("displayName", "")) if isinstance(spec, dict) else str(spec)


def _row(entry: Json) -> list[float] | None:
    numbers = [_number(n) for n in _list(entry.get("row") if isinstance(entry, dict) else entry)]
    found = [n for n in numbers if n is not None]
    return found if len(found) == len(numbers) else None


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _number_of(text: str) -> float | None:
    try:
        return _number(float(text))
    except ValueError:
        return None
