"""The XML documents that clients send, as values. Anything unexpected is MalformedXML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.components.objectstore.api import checksums
from headrace.components.objectstore.types import S3Error

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_FORBIDDEN = re.compile(rb"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ChosenPart:
    """One part of a CompleteMultipartUpload."""

    number: int
    etag: str
    checksum: str = ""


def delete(body: bytes) -> tuple[list[tuple[str, str]], bool]:
    """((key, ETag or ""), quiet) of DeleteObjects."""
    root = _root(body, "Delete")
    objects = [(_text(o, "Key"), _text(o, "ETag").strip('"')) for o in _children(root, "Object")]
    if any(_text(o, "VersionId") not in {"", "null"} for o in _children(root, "Object")):
        raise S3Error("NotImplemented", "DeleteObjects with a VersionId: versioning is not implemented.")
    if not objects or len(objects) > 1000 or not all(key for key, _ in objects):
        raise S3Error("MalformedXML", "Delete needs 1 to 1000 objects, each with a Key.")
    return objects, _text(root, "Quiet").lower() == "true"


def complete(body: bytes) -> list[ChosenPart]:
    """The parts of CompleteMultipartUpload."""
    root = _root(body, "CompleteMultipartUpload")
    try:
        parts = [
            ChosenPart(
                int(_text(p, "PartNumber")),
                _text(p, "ETag").strip('"'),
                next((v for a in checksums.ALGORITHMS if (v := _text(p, f"Checksum{a}"))), ""),
            )
            for p in _children(root, "Part")
        ]
    except ValueError:
        raise S3Error("MalformedXML", "A Part needs a PartNumber.") from None
    if not parts or len(parts) > 10_000:
        raise S3Error("MalformedXML", "CompleteMultipartUpload needs 1 to 10000 parts.")
    return parts


def tagging(body: bytes) -> list[tuple[str, str]]:
    """The pairs of a Tagging document."""
    sets = _children(_root(body, "Tagging"), "TagSet")
    if len(sets) != 1:
        raise S3Error("MalformedXML")
    return [(_text(tag, "Key"), _text(tag, "Value")) for tag in _children(sets[0], "Tag")]


def _root(body: bytes, name: str) -> Element:
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - few requests need it; DTDs are refused below

    if _FORBIDDEN.search(body):
        raise S3Error("MalformedXML")
    try:
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError:
        raise S3Error("MalformedXML") from None
    if root.tag.rpartition("}")[2] != name:
        raise S3Error("MalformedXML", f"Expected a {name} document.")
    return root


def _children(element: Element, name: str) -> list[Element]:
    return [child for child in element if child.tag.rpartition("}")[2] == name]


def _text(element: Element, name: str) -> str:
    found = _children(element, name)
    return (found[0].text or "") if found else ""
