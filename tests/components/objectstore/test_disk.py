"""A full or failing disk under the object store: a clear answer, nothing damaged, and on it goes."""

import contextlib
import sqlite3

import pytest

from headrace.components.objectstore.policy import ADMINISTRATOR
from headrace.images.s3client import S3, S3Error

from .conftest import serving


def refused(s3, key, size=300_000) -> S3Error:
    with pytest.raises(S3Error) as caught:
        for number in range(100):
            s3.put("mlpipeline", f"{key}-{number}", bytes(size))
    return caught.value


def check(folder) -> None:
    for path in folder.rglob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_is_told_and_what_was_stored_stays(server, small_disk):
    folder = small_disk.path / "objectstore"
    with serving(server, folder) as store:
        s3 = S3(store.endpoint, ADMINISTRATOR.access_key, ADMINISTRATOR.secret_key, patience=0.1)
        store.clients.append(s3)
        s3.put("mlpipeline", "kept", b"k" * 100_000)
        small_disk.fill()
        for size in (300_000, 10):  # the content finds no room; or it does, and its row does not
            error = refused(s3, "more", size)
            assert (error.status, "StorageFull" in str(error)) == (507, True)
        assert s3.get("mlpipeline", "kept") == b"k" * 100_000
        small_disk.empty()
        s3.put("mlpipeline", "again", b"a" * 100_000)
        assert s3.get("mlpipeline", "again") == b"a" * 100_000
    check(folder)


def test_a_disk_that_takes_no_writes_is_told(server, mortal_disk):
    folder = mortal_disk.path / "objectstore"
    with serving(server, folder) as store:
        s3 = S3(store.endpoint, ADMINISTRATOR.access_key, ADMINISTRATOR.secret_key, patience=0.1)
        store.clients.append(s3)
        s3.put("mlpipeline", "kept", b"kept")
        mortal_disk.fail()
        error = refused(s3, "more")
        assert (error.status, "StorageUnwritable" in str(error)) == (507, True)
        assert s3.get("mlpipeline", "kept") == b"kept"
    mortal_disk.mend()
    with serving(server, folder) as store:
        assert store.s3().get("mlpipeline", "kept") == b"kept"
        store.s3().put("mlpipeline", "again", b"again")
    check(folder)
