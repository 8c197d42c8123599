"""Pages: every row once, in order, whatever happens in between; quick with many rows."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest
import sqlalchemy as sa

from headrace.components.pipelines.store import listing
from headrace.components.pipelines.store import schema as t
from headrace.components.pipelines.store.listing import ListError, ListQuery, Operation, Predicate

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STATES = ("SUCCEEDED", "FAILED", "RUNNING")


async def fill(database, count: int, namespace: str = "team") -> None:
    def work(connection: sa.Connection) -> None:
        spec = {"digest": "d", "pipeline_spec": {"pipelineInfo": {"name": "p"}}, "platform_spec": None}
        if not connection.scalar(sa.select(t.specs.c.digest)):
            connection.execute(t.specs.insert().values(spec))
        rows = [
            {
                "id": f"{namespace}-{i:05}",
                "namespace": namespace,
                "experiment_id": f"e{i % 10}",
                "display_name": f"run {i % 7}",
                "storage_state": "ARCHIVED" if i % 5 == 0 else "AVAILABLE",
                "state": STATES[i % 3],
                "parameters": {},
                "state_history": [],
                "created_at": START + dt.timedelta(seconds=i // 2),
                "finished_at": None if i % 3 == 2 else START + dt.timedelta(seconds=i),
                "spec_digest": "d",
            }
            for i in range(count)
        ]
        connection.execute(t.runs.insert(), rows)

    await database.run(work)


async def pages(catalog, **query) -> list[str]:
    seen: list[str] = []
    token = ""
    for _ in range(100):
        page, _ = await catalog.list_runs(ListQuery(page_token=token, **query), "team")
        seen += [run.id for run in page.items]
        token = page.next_page_token
        if not token:
            return seen
    raise AssertionError("endless pages")


@pytest.mark.parametrize(
    ("sort_by", "descending"),
    list(itertools.product((None, "created_at", "finished_at", "display_name", "state", "run_id"), (False, True))),
)
async def test_pages_show_every_row_once_in_order(catalog, database, sort_by, descending):
    await fill(database, 50)
    await fill(database, 3, "other")
    paged = await pages(catalog, page_size=7, sort_by=sort_by, descending=descending)
    at_once = await pages(catalog, page_size=200, sort_by=sort_by, descending=descending)
    assert paged == at_once
    assert sorted(paged) == [f"team-{i:05}" for i in range(50)]


async def test_rows_that_come_in_between_shift_nothing(catalog, database):
    await fill(database, 10)
    query = {"page_size": 4, "sort_by": "run_id"}
    first, _ = await catalog.list_runs(ListQuery(**query), "team")
    await database.run(lambda c: c.execute(t.runs.delete().where(t.runs.c.id == "team-00003")) and None)
    await database.run(
        lambda c: c.execute(t.runs.update().where(t.runs.c.id == "team-00009").values(id="team-00000a")) and None
    )
    second, _ = await catalog.list_runs(ListQuery(page_token=first.next_page_token, **query), "team")
    assert [r.id for r in second.items] == [f"team-{i:05}" for i in range(4, 8)]


async def test_page_sizes(catalog, database):
    await fill(database, 250)
    for asked, given in ((0, 20), (7, 7), (200, 200), (1000, 200)):
        page, _ = await catalog.list_runs(ListQuery(page_size=asked), "team")
        assert (len(page.items), page.total) == (given, 250)
    with pytest.raises(ListError, match="must not be negative"):
        await catalog.list_runs(ListQuery(page_size=-1), "team")


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        (Predicate("state", Operation.EQUALS, "FAILED"), 10),
        (Predicate("status", Operation.EQUALS, "Failed"), 10),
        (Predicate("state", Operation.NOT_EQUALS, "FAILED"), 20),
        (Predicate("state", Operation.IN, ["FAILED", "RUNNING"]), 20),
        (Predicate("storage_state", Operation.NOT_EQUALS, "STORAGESTATE_ARCHIVED"), 24),
        (Predicate("created_at", Operation.GREATER_THAN_EQUALS, START + dt.timedelta(seconds=10)), 10),
        (Predicate("created_at", Operation.LESS_THAN, int(START.timestamp()) + 10), 20),
        (Predicate("created_at", Operation.GREATER_THAN, START + dt.timedelta(seconds=10)), 8),
        (Predicate("display_name", Operation.IS_SUBSTRING, "UN 3"), 4),
        (Predicate("display_name", Operation.IS_SUBSTRING, "%"), 0),
        (Predicate("display_name", Operation.LESS_THAN_EQUALS, "run 1"), 10),
        (Predicate("run_id", Operation.EQUALS, "' OR 1=1 --"), 0),
    ],
)
async def test_filters(catalog, database, predicate, expected):
    await fill(database, 30)
    assert len(await pages(catalog, page_size=5, predicates=(predicate,))) == expected


async def test_a_token_remembers_what_was_asked(catalog, database):
    await fill(database, 30)
    moment = Predicate("created_at", Operation.GREATER_THAN, START + dt.timedelta(seconds=2))
    asked = ListQuery(page_size=5, sort_by="created_at", descending=True, predicates=(moment,))
    first, _ = await catalog.list_runs(asked, "team")
    bare, _ = await catalog.list_runs(ListQuery(page_size=5, page_token=first.next_page_token), "team")
    again = ListQuery(5, first.next_page_token, "created_at", True, (moment,))
    repeated, _ = await catalog.list_runs(again, "team")
    assert [r.id for r in bare.items] == [r.id for r in repeated.items]
    assert not {r.id for r in bare.items} & {r.id for r in first.items}
    for other in (
        ListQuery(5, first.next_page_token, "created_at", False, (moment,)),
        ListQuery(5, first.next_page_token, "state", True, (moment,)),
        ListQuery(5, first.next_page_token, "created_at", True, (Predicate("state", Operation.EQUALS, "x"),)),
    ):
        with pytest.raises(ListError, match="ask for the first page again"):
            await catalog.list_runs(other, "team")


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "bm90IGpzb24=",
        "W10=",
        "WyJubyIsZmFsc2UsW10sMSwieCJd",  # ["no",false,[],1,"x"]
        "WyJzdGF0ZSIsZmFsc2UsW10sMSwieCJd",  # ["state",false,[],1,"x"]: a number where text belongs
        "WyJjcmVhdGVkX2F0IixmYWxzZSxbXSw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LCJ4Il0=",  # a number beyond 64 bits
        "WyJzdGF0ZSIsZmFsc2UsW1siY3JlYXRlZF9hdCIsIkVRVUFMUyIsIngiXV0sInkiLCJ4Il0=",  # a moment that is none
    ],
)
async def test_a_token_from_elsewhere_is_refused(catalog, database, token):
    await fill(database, 3)
    with pytest.raises(ListError):
        await catalog.list_runs(ListQuery(page_token=token), "team")


async def test_unknown_fields_are_named(catalog):
    with pytest.raises(ListError, match=r"Cannot sort by 'colour'; fields are .* metric:NAME"):
        await catalog.list_runs(ListQuery(sort_by="colour"), "team")
    with pytest.raises(ListError, match="Cannot filter by 'colour'"):
        await catalog.list_runs(ListQuery(predicates=(Predicate("colour", Operation.EQUALS, "x"),)), "team")


async def test_the_usual_lists_use_an_index(database):
    def plans(connection: sa.Connection) -> list[str]:
        found = []
        c = t.runs.c
        for scope in (c.namespace == "team", c.experiment_id == "e1"):
            select = sa.select(t.runs).where(scope).order_by(c.created_at.desc(), c.id.desc()).limit(21)
            text = str(select.compile(connection, compile_kwargs={"literal_binds": True}))
            found.append(" ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")))
        return found

    for plan in await database.run(plans):
        assert "USING INDEX" in plan
        assert "TEMP B-TREE" not in plan


async def test_runs_are_counted_by_state_from_an_index_alone(database):
    c = t.runs.c
    counted = sa.select(c.state, sa.func.count()).where(c.namespace == "team", c.storage_state == "AVAILABLE")

    def plan(connection: sa.Connection) -> str:
        text = str(counted.group_by(c.state).compile(connection, compile_kwargs={"literal_binds": True}))
        return " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))

    found = await database.run(plan)
    assert "USING COVERING INDEX" in found
    assert "TEMP B-TREE" not in found


def test_every_listable_field_is_a_column_of_its_table():
    for listable in (listing.EXPERIMENTS, listing.PIPELINES, listing.VERSIONS, listing.RUNS, listing.ARTIFACTS):
        for field in listable.fields.values():
            assert field.column.table is listable.table


async def test_runs_are_sorted_by_a_metric(catalog, database):
    """Those that lack it are below all others, as upstream's NULL is; of several values the largest counts."""
    await fill(database, 6)
    values = {"team-00001": [0.5], "team-00003": [-2.0, 0.9], "team-00004": [0.5]}
    rows = [
        {"run_id": run, "node_id": f"n{i}", "name": "Accuracy", "number_value": value, "format": ""}
        for run, found in values.items()
        for i, value in enumerate(found)
    ]
    await database.run(lambda connection: connection.execute(t.run_metrics.insert(), rows) and None)
    seen, token = [], ""
    while True:
        query = ListQuery(page_size=1, page_token=token, sort_by="metric:Accuracy", descending=True)
        page, _ = await catalog.list_runs(query, "team")
        seen += [run.id for run in page.items]
        token = page.next_page_token
        if not token:
            break
    without = ["team-00005", "team-00002", "team-00000"]
    assert seen == ["team-00003", "team-00004", "team-00001", *without]
    rising, _ = await catalog.list_runs(ListQuery(sort_by="metric:Accuracy"), "team")
    assert [run.id for run in rising.items] == seen[::-1]
    other, _ = await catalog.list_runs(ListQuery(sort_by="metric:none"), "team")
    assert len(other.items) == 6


async def test_only_runs_have_metrics(catalog):
    with pytest.raises(ListError, match="Cannot sort by 'metric:x'"):
        await catalog.list_experiments(ListQuery(sort_by="metric:x"), "team")


async def test_a_token_of_a_metric_belongs_to_it(catalog, database):
    await fill(database, 3)
    page, _ = await catalog.list_runs(ListQuery(page_size=1, sort_by="metric:x"), "team")
    with pytest.raises(ListError, match="another sort_by"):
        await catalog.list_runs(ListQuery(page_token=page.next_page_token, sort_by="created_at"), "team")
