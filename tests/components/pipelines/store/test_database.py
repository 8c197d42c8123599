"""The worker thread: order, isolation of failures, durability, migrations."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from headrace.components.pipelines import migrations
from headrace.components.pipelines.store import schema as t
from headrace.machinery.sql import Database, Durable, NewerDatabase

ROW = {"namespace": "n", "storage_state": "AVAILABLE"}


def insert(ident: str):
    return lambda c: c.execute(t.experiments.insert().values(id=ident, display_name=ident, **ROW)) and None


def names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(t.experiments.c.id).order_by(t.experiments.c.id)))


async def test_a_failure_undoes_its_own_changes_only(database):
    def fails(connection: sa.Connection) -> None:
        insert("half")(connection)
        raise LookupError("no")

    results = await asyncio.gather(
        database.run(insert("a")), database.run(fails), database.run(insert("b")), return_exceptions=True
    )
    assert isinstance(results[1], LookupError)
    assert await database.run(names) == ["a", "b"]


async def test_a_failure_alone_undoes_what_it_did(database):
    def fails(connection: sa.Connection) -> None:
        insert("half")(connection)
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await database.run(fails)
    assert await database.run(names) == []


async def test_only_what_must_be_durable_waits_for_the_disk(database):
    def level(connection: sa.Connection) -> int:
        return connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    full, normal = 2, 1
    assert await database.run(level) == full
    assert await database.run(level, Durable.EVENTUALLY) == await database.run(level, Durable.SOON) == normal
    both = await asyncio.gather(database.run(level, Durable.EVENTUALLY), database.run(level))
    assert both in ([full] * 2, [normal, full])
    assert await database.run(level) == full


async def test_what_is_durable_soon_is_brought_to_disk_after_its_answer(database, monkeypatch):
    flushed = threading.Event()

    def flush(fd: int) -> None:
        assert str(Path(f"/proc/self/fd/{fd}").readlink()).endswith("-wal")
        flushed.set()

    monkeypatch.setattr(os, "fdatasync", flush)
    await database.run(insert("a"), Durable.EVENTUALLY)
    await database.run(names)
    assert not flushed.is_set()
    await database.run(insert("b"), Durable.SOON)
    assert await asyncio.to_thread(flushed.wait, 30)
    assert await database.run(names) == ["a", "b"]


async def test_what_is_asked_for_later_sees_what_was_asked_for_before(database):
    asked = [database.run(insert(str(i))) for i in range(100)]
    *_, seen = await asyncio.gather(*asked, database.run(names))
    assert len(seen) == 100


async def test_work_runs_in_one_thread_that_is_not_the_loops(database):
    threads = {await database.run(lambda _c: threading.get_ident()) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_a_caller_that_goes_away_undoes_nothing(database):
    waiting = asyncio.ensure_future(database.run(insert("a")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await database.run(names) == ["a"]


async def test_a_closed_database_says_so(database_url):
    closed = Database(database_url)
    with pytest.raises(RuntimeError, match="not open"):
        await closed.run(names)
    await closed.open(migrations.upgrade)
    await closed.close()
    await closed.close()
    with pytest.raises(RuntimeError, match="not open"):
        await closed.run(names)


async def test_what_cannot_be_opened_raises(tmp_path):
    with pytest.raises(sa.exc.OperationalError):
        await Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}").open(migrations.upgrade)


async def test_writes_are_synchronous(database):
    def pragmas(connection: sa.Connection) -> dict[str, object]:
        wanted = ("journal_mode", "synchronous", "foreign_keys")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted}

    assert await database.run(pragmas) == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


WRITER = """
import asyncio, sys
import sqlalchemy as sa
from headrace.components.pipelines.migrations import upgrade
from headrace.components.pipelines.store import schema as t
from headrace.machinery.sql import Database

async def main():
    database = Database(sys.argv[1])
    await database.open(upgrade)
    async def write(number):
        row = dict(id=str(number), display_name=str(number), namespace="n", storage_state="AVAILABLE")
        await database.run(lambda c: c.execute(t.experiments.insert().values(row)) and None)
        print(number, flush=True)
    for start in range(0, 100000, 5):
        await asyncio.gather(*(write(start + i) for i in range(5)))

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(database_url):
    with subprocess.Popen([sys.executable, "-c", WRITER, database_url], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline().strip() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().split()
    acknowledged = {line for line in lines if line}
    assert len(acknowledged) >= 60
    again = Database(database_url)
    await again.open(migrations.upgrade)
    try:
        # The last line may have been cut by the kill.
        assert acknowledged - set(await again.run(names)) <= {lines[-1]}
    finally:
        await again.close()


def shape(connection: sa.Connection) -> dict[str, object]:
    """Everything that the database knows of its tables."""
    inspector = sa.inspect(connection)
    return {
        table: {
            "columns": [{**c, "type": str(c["type"])} for c in inspector.get_columns(table)],
            "primary": inspector.get_pk_constraint(table),
            "unique": sorted(inspector.get_unique_constraints(table), key=str),
            "foreign": sorted(inspector.get_foreign_keys(table), key=str),
            "indexes": sorted(inspector.get_indexes(table), key=str),
        }
        for table in inspector.get_table_names()
        if table not in {"alembic_version", "sqlite_sequence"}
    }


async def test_migrations_build_the_tables_of_the_schema(database):
    migrated = await database.run(shape)
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        t.metadata.create_all(connection)
        built = shape(connection)
    engine.dispose()
    assert len(built) == len(t.metadata.tables)
    assert migrated == built


def test_head_is_the_newest_migration():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(next(iter(migrations.__path__))))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


async def test_migrations_can_be_taken_back(database_url):
    from alembic import command
    from alembic.config import Config

    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(next(iter(migrations.__path__))))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version", "sqlite_sequence"}
        command.upgrade(config, "head")
        assert "runs" in sa.inspect(connection).get_table_names()
    engine.dispose()


def test_a_warm_start_does_not_import_alembic(database_url):
    program = """
import asyncio, json, sys
from headrace.components.pipelines.migrations import upgrade
from headrace.machinery.sql import Database
async def main():
    database = Database(sys.argv[1])
    await database.open(upgrade)
    await database.close()
asyncio.run(main())
print(json.dumps([m for m in sys.modules if m.split(".")[0] in ("alembic", "mako") or m == "sqlalchemy.orm"]))
"""
    done = subprocess.run([sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


async def test_a_newer_database_is_refused(database, database_url):
    await database.run(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")) and None)
    await database.close()
    with pytest.raises(NewerDatabase, match="has schema 9999"):
        await Database(database_url).open(migrations.upgrade)


def test_the_tables_fit_postgresql():
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialect = postgresql.dialect()
    for table in t.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert len(index.name) <= 63
            CreateIndex(index).compile(dialect=dialect)
