"""A run drawn: states of what has been recorded, what has not begun, loops as one box."""

from __future__ import annotations

import datetime as dt
import importlib.util
import re
import sys
from pathlib import Path

from headrace.api.identity import User
from headrace.components.pipelines.store.models import RuntimeState, TaskType
from headrace.components.pipelines.ui import rungraph, timeline, window
from headrace.machinery.pages import PageRequest

_at = importlib.util.spec_from_file_location("pipelines_select_rows", Path(__file__).with_name("test_select.py"))
rows = sys.modules["pipelines_select_rows"] = importlib.util.module_from_spec(_at)
_at.loader.exec_module(rows)

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def request(**query: str) -> PageRequest:
    return PageRequest(User("me"), "/runs/r", "ns", NOW, {"run": "r"}, query)


def test_boxes_follow_the_pipeline_and_have_the_states_of_the_run():
    drawn = {box.label: box for box in rungraph.boxes(rows.run(), rows.SPEC)}
    assert list(drawn) == ["load", "each", "The report", "aside"]
    assert (drawn["load"].kind, drawn["load"].word) == ("hit", "From cache")
    assert drawn["The report"].after == ["root/each"]
    loop = drawn["each"]
    assert (loop.note, loop.count()) == ("loop", 4)
    assert loop.shares == {"ok": 1, "bad": 1, "wait": 2}
    assert [box.label for box in loop.children[0].children] == ["train", "score"]


def test_what_has_not_begun_is_drawn_too():
    tasks = [task for task in rows.run() if task.id in {"root", "load"}]
    drawn = {box.label: box for box in rungraph.boxes(tasks, rows.SPEC)}
    assert drawn["report"].word == "not started"
    assert drawn["each"].note == "loop"
    assert drawn["each"].count() == 2


def test_without_a_spec_the_record_is_drawn():
    drawn = rungraph.boxes(rows.run(), None)
    assert {box.label for box in drawn} == {"load", "each", "The report", "aside"}
    assert not [box for box in drawn if box.after]


def test_only_some_tasks():
    drawn = rungraph.boxes(rows.run(), rows.SPEC, frozenset({"each", "i1", "train1"}))
    assert [box.label for box in drawn] == ["each"]
    assert drawn[0].count() == 1


def test_a_loop_is_one_box_until_it_is_opened_and_shows_what_is_chosen_in_it():
    tasks = rows.run()
    train = next(task for task in tasks if task.id == "train1")
    shut = rungraph.render(request(), tasks, train, rows.SPEC)
    assert shut.count("<title>") == 4
    assert len(re.findall(r'class="mark (?:ok|bad|wait)"', shut)) == 4 + 2  # three shares and three states
    assert re.search(r'class="node sel"', shut)
    toggle = re.search(r'href="/runs/r\?open=(\w+)" class="knob"', shut)
    assert toggle
    opened = rungraph.render(request(open=toggle[1]), tasks, train, rows.SPEC)
    assert opened.count("<title>") > 4
    assert "task=train1" in opened
    assert "task=train1" not in shut


def test_a_thousand_rows_are_shown_in_parts_with_the_selected_one_among_them():
    tasks = [rows.row("root", "root", TaskType.ROOT, None, started_at=NOW)]
    tasks += [rows.row(f"t{i:04}", f"root/t{i:04}", created_at=NOW, started_at=NOW) for i in range(1000)]
    for task in tasks:
        task.state = RuntimeState.RUNNING
    text = timeline.render(request(), tasks, tasks[700], {})
    assert text.count('id="t-') == window.ROWS
    assert 'id="t-t0699"' in text
    assert "501 to 750 of 1000" in text
    assert 'href="/runs/r?from=250"' in text
    assert 'href="/runs/r?from=750"' in text
    drawn = rungraph.render(request(), tasks, None, None)
    assert drawn.count("<title>") == rungraph.MAX_DRAWN
    assert "The first 300 of 1000 tasks" in drawn
    last = timeline.render(request(**{"from": "99999"}), tasks, None, {})
    assert 'id="t-t0999"' in last
    assert "Further" not in last
    assert window.turn(request(), window.ROWS, 0) == ""
