"""Rows of the index as values, and the counting of content files that rows name."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, cast

from headrace.api import _wire
from headrace.components.objectstore.types import (
    Checksum,
    ChecksumType,
    ObjectRecord,
    PartRecord,
    S3Error,
    Segment,
    UploadRecord,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

OBJECT_COLUMNS = (
    "bucket, key, size, etag, modified, algorithm, checksum, checksum_type, headers, tags, part_sizes, segments"
)
UPLOAD_COLUMNS = "id, bucket, key, initiated, headers, tags, algorithm, checksum_type"
PART_COLUMNS = "number, size, etag, modified, checksum, segments"
_MICROSECOND = dt.timedelta(microseconds=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def to_number(moment: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def to_moment(number: int) -> dt.datetime:
    """The other way round."""
    return _EPOCH + number * _MICROSECOND


def dump(value: object) -> str:
    """JSON text."""
    return _wire.encode(value).decode()


def object_of(row: Sequence[Any]) -> ObjectRecord:
    """From OBJECT_COLUMNS."""
    bucket, key, size, etag, modified, algorithm, checksum, checksum_type, headers, tags, part_sizes, segments = row
    return ObjectRecord(
        bucket=bucket,
        key=key.decode(),
        size=size,
        etag=etag,
        modified=to_moment(modified),
        headers=_wire.decode_any(headers),
        tags=_wire.decode_any(tags),
        checksum=Checksum(algorithm, checksum, checksum_type) if algorithm else None,
        segments=segments_of(segments),
        part_sizes=tuple(_wire.decode_any(part_sizes)),
    )


def object_values(record: ObjectRecord) -> tuple[Any, ...]:
    """For OBJECT_COLUMNS."""
    checksum = record.checksum
    return (
        record.bucket,
        record.key.encode(),
        record.size,
        record.etag,
        to_number(record.modified),
        checksum.algorithm if checksum else "",
        checksum.value if checksum else "",
        checksum.type if checksum else "",
        dump(record.headers),
        dump(record.tags),
        dump(record.part_sizes),
        dump_segments(record.segments),
    )


def upload_of(row: Sequence[Any]) -> UploadRecord:
    """From UPLOAD_COLUMNS."""
    upload, bucket, key, initiated, headers, tags, algorithm, checksum_type = row
    return UploadRecord(
        id=upload,
        bucket=bucket,
        key=key.decode(),
        initiated=to_moment(initiated),
        headers=_wire.decode_any(headers),
        tags=_wire.decode_any(tags),
        algorithm=algorithm,
        checksum_type=cast("ChecksumType", checksum_type),
    )


def part_of(row: Sequence[Any]) -> PartRecord:
    """From PART_COLUMNS."""
    number, size, etag, modified, checksum, segments = row
    return PartRecord(number, size, etag, to_moment(modified), checksum, segments_of(segments))


def segments_of(text: str) -> tuple[Segment, ...]:
    """From the `segments` column."""
    return tuple(Segment(*item) for item in _wire.decode_any(text))


def dump_segments(segments: Iterable[Segment]) -> str:
    """For the `segments` column."""
    return dump([[s.blob, s.offset, s.length] for s in segments])


def name_new(connection: sqlite3.Connection, segments: Iterable[Segment]) -> None:
    """A row names content files that were just written."""
    connection.executemany("INSERT INTO blobs (id, refs) VALUES (?, 1)", [(s.blob,) for s in segments])


def name_again(connection: sqlite3.Connection, segments: Iterable[Segment]) -> None:
    """One more row names content files. Raises OperationAborted when one is gone."""
    for segment in segments:
        if not connection.execute("UPDATE blobs SET refs = refs + 1 WHERE id = ?", (segment.blob,)).rowcount:
            raise S3Error("OperationAborted")


def unname(connection: sqlite3.Connection, segments: Iterable[Segment]) -> list[str]:
    """A row that named these is gone; the files that no row names any more."""
    garbage = []
    for segment in segments:
        ((refs,),) = connection.execute(
            "UPDATE blobs SET refs = refs - 1 WHERE id = ? RETURNING refs", (segment.blob,)
        ).fetchall() or ((1,),)
        if refs <= 0:
            connection.execute("DELETE FROM blobs WHERE id = ?", (segment.blob,))
            garbage.append(segment.blob)
    return garbage
