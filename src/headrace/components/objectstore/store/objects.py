# ruff: noqa: S608 - only constant lists of columns are put into statements
"""The operations on buckets, objects and uploads: each write is one transaction, each read one query."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.components.objectstore import policy
from headrace.components.objectstore.store import rows
from headrace.components.objectstore.store.content import ContentStore
from headrace.components.objectstore.store.index import Index
from headrace.components.objectstore.types import (
    Bucket,
    ListedKey,
    Listing,
    ObjectRecord,
    PartRecord,
    Preconditions,
    S3Error,
    UploadRecord,
)

if TYPE_CHECKING:
    import datetime as dt
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

_PUT = (
    f"INSERT INTO objects ({rows.OBJECT_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) "
    "ON CONFLICT (bucket, key) DO UPDATE SET "
    + ", ".join(f"{c} = excluded.{c}" for c in rows.OBJECT_COLUMNS.split(", ")[2:])
)
_GET = f"SELECT {rows.OBJECT_COLUMNS} FROM objects WHERE bucket = ? AND key = ?"
_LIST = (
    "SELECT key, size, etag, modified, algorithm, checksum_type FROM objects "
    "WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?"
)
NOTHING = Preconditions()
BATCH = 200
"""Objects that are removed in one transaction, where many are."""
_LAST = b"\xff"  # no UTF-8 text begins with it: behind every key


class ObjectStore:
    """The index and the content files, as one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.content = ContentStore(folder / "content")
        self._index = Index(folder / "index.db", self.content.remove)

    def open(self) -> None:
        """Open or create. Content that a crash left unnamed is removed by `collect`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._index.open()
        self.content.open(self._index.epoch)

    async def close(self) -> None:
        """Finish writes and close."""
        await self._index.close()
        self.content.close()

    async def collect(self) -> int:
        """Remove content files of earlier runs that nothing names; how many those were."""

        def named(blobs: list[str]) -> set[str]:
            query = "SELECT 1 FROM blobs WHERE id = ?"
            return {blob for blob in blobs if self._read.execute(query, (blob,)).fetchone()}

        return await self.content.collect(named)

    @property
    def _read(self) -> sqlite3.Connection:
        return self._index.reader

    # Buckets

    def buckets(self) -> list[Bucket]:
        """All buckets by name."""
        found = self._read.execute("SELECT name, created FROM buckets ORDER BY name").fetchall()
        return [Bucket(name, rows.to_moment(created)) for name, created in found]

    def require_bucket(self, name: str) -> None:
        """Raises NoSuchBucket."""
        _require_bucket(self._read, name)

    async def create_bucket(self, name: str, now: dt.datetime) -> bool:
        """Create; False when it was there."""

        def work(db: sqlite3.Connection) -> tuple[bool, list[str]]:
            inserted = db.execute("INSERT OR IGNORE INTO buckets VALUES (?, ?)", (name, rows.to_number(now))).rowcount
            return inserted > 0, []

        return await self._index.write(work)

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty bucket and its unfinished uploads. Raises NoSuchBucket, BucketNotEmpty."""

        def work(db: sqlite3.Connection) -> tuple[None, list[str]]:
            _require_bucket(db, name)
            if db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
                raise S3Error("BucketNotEmpty")
            garbage = []
            for (upload,) in db.execute("SELECT id FROM uploads WHERE bucket = ?", (name,)).fetchall():
                garbage += _drop_upload(db, upload)
            db.execute("DELETE FROM buckets WHERE name = ?", (name,))
            return None, garbage

        await self._index.write(work)

    # Objects

    def get(self, bucket: str, key: str) -> ObjectRecord:
        """The object. Raises NoSuchBucket, NoSuchKey."""
        found = _get(self._read, bucket, key)
        if found is None:
            self.require_bucket(bucket)
            raise S3Error("NoSuchKey")
        return found

    async def put(self, record: ObjectRecord, conditions: Preconditions = NOTHING) -> ObjectRecord:
        """Name new content. Raises NoSuchBucket, PreconditionFailed, NoSuchKey."""

        def work(db: sqlite3.Connection) -> tuple[ObjectRecord, list[str]]:
            rows.name_new(db, record.segments)
            return record, _replace(db, record, conditions)

        return await self._index.write(work)

    async def copy(
        self,
        source: tuple[str, str],
        make: Callable[[ObjectRecord], ObjectRecord],
        conditions: Preconditions = NOTHING,
    ) -> ObjectRecord:
        """Name the source's content again; `make` says what the copy is, and may refuse."""

        def work(db: sqlite3.Connection) -> tuple[ObjectRecord, list[str]]:
            found = _get(db, *source)
            if found is None:
                _require_bucket(db, source[0])
                raise S3Error("NoSuchKey")
            record = make(found)
            rows.name_again(db, record.segments)
            return record, _replace(db, record, conditions)

        return await self._index.write(work)

    async def delete(self, bucket: str, key: str, conditions: Preconditions = NOTHING) -> None:
        """Remove; a key that is not there is fine. Raises NoSuchBucket, PreconditionFailed."""

        def work(db: sqlite3.Connection) -> tuple[None, list[str]]:
            _require_bucket(db, bucket)
            found = _get(db, bucket, key)
            policy.check_write(found, conditions)
            if found is None:
                return None, []
            db.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key.encode()))
            return None, rows.unname(db, found.segments)

        await self._index.write(work)

    async def delete_below(self, bucket: str, prefix: str) -> None:
        """Remove every object and every unfinished upload below a prefix, some in each transaction."""
        span = (bucket, prefix.encode(), _behind(prefix.encode()))

        def work(db: sqlite3.Connection) -> tuple[bool, list[str]]:
            found = db.execute(
                "SELECT key, segments FROM objects WHERE bucket = ? AND key >= ? AND key < ? LIMIT ?", (*span, BATCH)
            ).fetchall()
            db.executemany("DELETE FROM objects WHERE bucket = ? AND key = ?", [(bucket, key) for key, _ in found])
            garbage = [blob for _, text in found for blob in rows.unname(db, rows.segments_of(text))]
            begun = db.execute(
                "SELECT id FROM uploads WHERE bucket = ? AND key >= ? AND key < ? LIMIT ?", (*span, BATCH)
            ).fetchall()
            for (upload,) in begun:
                garbage += _drop_upload(db, upload)
            return bool(found or begun), garbage

        while await self._index.write(work):
            pass

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the object's tags. Raises NoSuchBucket, NoSuchKey."""

        def work(db: sqlite3.Connection) -> tuple[None, list[str]]:
            changed = db.execute(
                "UPDATE objects SET tags = ? WHERE bucket = ? AND key = ?", (rows.dump(tags), bucket, key.encode())
            ).rowcount
            if not changed:
                _require_bucket(db, bucket)
                raise S3Error("NoSuchKey")
            return None, []

        await self._index.write(work)

    def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
    ) -> Listing:
        """Keys and common prefixes behind `after` in UTF-8 order. Raises NoSuchBucket."""
        self.require_bucket(bucket)
        keys: list[ListedKey] = []
        prefixes: list[str] = []
        if limit <= 0:
            return Listing(keys, prefixes)
        lower = max(prefix.encode(), after.encode() + b"\0" if after else b"")
        upper = _behind(prefix.encode())
        last = ""
        while True:
            wanted = limit - len(keys) - len(prefixes) + 1
            found = self._read.execute(_LIST, (bucket, lower, upper, wanted)).fetchall()
            skipped = False
            for raw, size, etag, modified, algorithm, checksum_type in found:
                key = raw.decode()
                cut = key.find(delimiter, len(prefix)) if delimiter else -1
                common = key[: cut + len(delimiter)] if cut >= 0 else ""
                if common and after and common <= after:
                    lower, skipped = _behind(common.encode()), True  # listed on the page before
                    break
                if len(keys) + len(prefixes) == limit:
                    return Listing(keys, prefixes, last, truncated=True)
                if common:
                    prefixes.append(common)
                    last = common
                    lower, skipped = _behind(common.encode()), True
                    break
                keys.append(ListedKey(key, size, etag, rows.to_moment(modified), algorithm, checksum_type))
                last = key
            if not skipped:
                return Listing(keys, prefixes)

    # Multipart uploads

    async def create_upload(self, record: UploadRecord) -> UploadRecord:
        """Begin; the record comes back with its id. Raises NoSuchBucket."""
        named = replace(record, id=secrets.token_hex(24))

        def work(db: sqlite3.Connection) -> tuple[UploadRecord, list[str]]:
            _require_bucket(db, named.bucket)
            db.execute(
                f"INSERT INTO uploads ({rows.UPLOAD_COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",
                (
                    named.id,
                    named.bucket,
                    named.key.encode(),
                    rows.to_number(named.initiated),
                    rows.dump(named.headers),
                    rows.dump(named.tags),
                    named.algorithm,
                    named.checksum_type,
                ),
            )
            return named, []

        return await self._index.write(work)

    def upload(self, bucket: str, key: str, upload: str) -> UploadRecord:
        """Raises NoSuchBucket, NoSuchUpload."""
        return _upload(self._read, bucket, key, upload)

    async def put_part(self, upload: UploadRecord, part: PartRecord, *, copied: bool = False) -> None:
        """Add or replace a part. Raises NoSuchUpload; OperationAborted when copied content is gone."""

        def work(db: sqlite3.Connection) -> tuple[None, list[str]]:
            _upload(db, upload.bucket, upload.key, upload.id)
            if copied:
                rows.name_again(db, part.segments)
            else:
                rows.name_new(db, part.segments)
            old = db.execute(
                "DELETE FROM parts WHERE upload = ? AND number = ? RETURNING segments", (upload.id, part.number)
            ).fetchall()
            db.execute(
                f"INSERT INTO parts (upload, {rows.PART_COLUMNS}) VALUES (?,?,?,?,?,?,?)",
                (
                    upload.id,
                    part.number,
                    part.size,
                    part.etag,
                    rows.to_number(part.modified),
                    part.checksum,
                    rows.dump_segments(part.segments),
                ),
            )
            return None, [blob for (text,) in old for blob in rows.unname(db, rows.segments_of(text))]

        await self._index.write(work)

    def parts(self, upload: str, *, after: int = 0, limit: int = 10_000) -> list[PartRecord]:
        """Parts by number."""
        return _parts(self._read, upload, after, limit)

    def uploads(
        self, bucket: str, *, prefix: str = "", after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> list[UploadRecord]:
        """Unfinished uploads by key and id behind `after`. Raises NoSuchBucket."""
        self.require_bucket(bucket)
        found = self._read.execute(
            f"SELECT {rows.UPLOAD_COLUMNS} FROM uploads WHERE bucket = ? AND key >= ? AND key < ? "
            "AND (key, id) > (?, ?) ORDER BY key, id LIMIT ?",
            (bucket, prefix.encode(), _behind(prefix.encode()), after[0].encode(), after[1], limit),
        ).fetchall()
        return [rows.upload_of(row) for row in found]

    async def complete_upload(
        self,
        upload: UploadRecord,
        make: Callable[[UploadRecord, list[PartRecord]], ObjectRecord],
        conditions: Preconditions = NOTHING,
    ) -> ObjectRecord:
        """Turn parts into an object; `make` chooses and checks them. Raises NoSuchUpload and what `make` raises."""

        def work(db: sqlite3.Connection) -> tuple[ObjectRecord, list[str]]:
            present = _upload(db, upload.bucket, upload.key, upload.id)
            record = make(present, _parts(db, upload.id))
            rows.name_again(db, record.segments)
            garbage = _replace(db, record, conditions)
            return record, garbage + _drop_upload(db, upload.id)

        return await self._index.write(work)

    async def abort_upload(self, upload: UploadRecord) -> None:
        """Forget an upload and its parts. Raises NoSuchUpload."""

        def work(db: sqlite3.Connection) -> tuple[None, list[str]]:
            _upload(db, upload.bucket, upload.key, upload.id)
            return None, _drop_upload(db, upload.id)

        await self._index.write(work)


def _require_bucket(db: sqlite3.Connection, name: str) -> None:
    if not db.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
        raise S3Error("NoSuchBucket")


def _get(db: sqlite3.Connection, bucket: str, key: str) -> ObjectRecord | None:
    row = db.execute(_GET, (bucket, key.encode())).fetchone()
    return rows.object_of(row) if row else None


def _replace(db: sqlite3.Connection, record: ObjectRecord, conditions: Preconditions) -> list[str]:
    _require_bucket(db, record.bucket)
    old = _get(db, record.bucket, record.key)
    policy.check_write(old, conditions)
    db.execute(_PUT, rows.object_values(record))
    return rows.unname(db, old.segments) if old else []


def _upload(db: sqlite3.Connection, bucket: str, key: str, upload: str) -> UploadRecord:
    row = db.execute(
        f"SELECT {rows.UPLOAD_COLUMNS} FROM uploads WHERE id = ? AND bucket = ? AND key = ?",
        (upload, bucket, key.encode()),
    ).fetchone()
    if row is None:
        _require_bucket(db, bucket)
        raise S3Error("NoSuchUpload")
    return rows.upload_of(row)


def _parts(db: sqlite3.Connection, upload: str, after: int = 0, limit: int = 10_000) -> list[PartRecord]:
    found = db.execute(
        f"SELECT {rows.PART_COLUMNS} FROM parts WHERE upload = ? AND number > ? ORDER BY number LIMIT ?",
        (upload, after, limit),
    ).fetchall()
    return [rows.part_of(row) for row in found]


def _drop_upload(db: sqlite3.Connection, upload: str) -> list[str]:
    garbage = []
    for (text,) in db.execute("DELETE FROM parts WHERE upload = ? RETURNING segments", (upload,)).fetchall():
        garbage += rows.unname(db, rows.segments_of(text))
    db.execute("DELETE FROM uploads WHERE id = ?", (upload,))
    return garbage


def _behind(prefix: bytes) -> bytes:
    """The first byte string behind all that begin with this prefix."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else _LAST
