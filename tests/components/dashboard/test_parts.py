"""The small parts that pages are made of."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.components.pipelines.store.models import RuntimeState, TaskRow, TaskType
from headrace.components.pipelines.ui import charts, timeline
from headrace.machinery import look
from headrace.machinery.html import Markup, el
from headrace.machinery.pages import Signal

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0004, "0 ms"),
        (0.012, "12 ms"),
        (2.84, "2.84 s"),
        (46.81, "46.8 s"),
        (72, "1 m 12 s"),
        (3720, "1 h 2 m"),
        (59.97, "1 m 0 s"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_in_words(value, words):
    assert look.seconds(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [(12, "12 B"), (1536, "1.5 KiB"), (120 << 20, "120 MiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_in_words(value, words):
    assert look.size(value) == words


def test_elements_escape_and_refuse():
    assert el("p", "<b>", title='"') == '<p title="&quot;">&lt;b&gt;</p>'
    assert el("a", "x", href="javascript:alert(1)") == '<a href="#">x</a>'
    assert el("rect", x=1) == '<rect x="1"></rect>'
    assert el("br") == "<br>"
    assert el("p", Markup("<b>"), None, False, [1, "&"]) == "<p><b>1&amp;</p>"
    for bad in ({"style": "x"}, {"onclick": "x"}):
        with pytest.raises(ValueError, match="pages have no"):
            el("p", **bad)


def test_a_signal_reaches_its_topic_and_all():
    heard: list[str] = []
    signal = Signal()
    signal.subscribe(lambda: heard.append("all"))
    end = signal.subscribe(lambda: heard.append("a"), "a")
    signal.subscribe(lambda: heard.append("b"), "b")
    signal.fire("a")
    assert heard == ["all", "a"]
    end()
    signal.fire()
    assert heard == ["all", "a", "all", "b"]


def task(ident: str, kind: TaskType, parent: str | None, start: float, end: float | None, **more) -> TaskRow:
    moment = {"created_at": T0, "started_at": T0 + dt.timedelta(seconds=start)}
    if end is not None:
        moment["finished_at"] = T0 + dt.timedelta(seconds=end)
    state = RuntimeState.SUCCEEDED if end is not None else RuntimeState.RUNNING
    return TaskRow(ident, "r", ident, ident, kind, parent, state=state, **moment, **more)


def test_iterations_of_one_step_are_shown_as_that_step_in_order():
    rows = [
        task("root", TaskType.ROOT, None, 0, 3),
        task("loop", TaskType.LOOP, "root", 0, 3),
        task("i1", TaskType.DAG, "loop", 0, 3, iteration_index=1),
        task("i0", TaskType.DAG, "loop", 0, 3, iteration_index=0),
        task("fit1", TaskType.RUNTIME, "i1", 0, 3),
        task("fit0", TaskType.RUNTIME, "i0", 0, 3),
    ]
    rows[3].inputs.parameters = {"pipelinechannel--loop-item-param-1": {"C": 1}}
    (loop,) = timeline.tree(rows)
    assert [(child.task.id, child.hint) for child in loop.children] == [("fit0", "C=1"), ("fit1", "#1")]


def test_waiting_begins_when_what_a_task_needs_has_ended():
    rows = [task("a", TaskType.RUNTIME, "root", 0, 2), task("b", TaskType.RUNTIME, "root", 3, 4)]
    spec = {"root": {"dag": {"tasks": {"a": {}, "b": {"dependentTasks": ["a"]}}}}}
    assert timeline.ready_times(rows, spec) == {"a": T0, "b": T0 + dt.timedelta(seconds=2)}
    rows[0].finished_at = None
    assert set(timeline.ready_times(rows, spec)) == {"a"}


def test_the_axis_leaves_room_while_something_runs():
    now = T0 + dt.timedelta(seconds=10)
    assert timeline.axis_of([task("a", TaskType.RUNTIME, None, 0, 10)], now, {}).span == pytest.approx(10.2)
    assert timeline.axis_of([task("a", TaskType.RUNTIME, None, 0, None)], now, {}).span == pytest.approx(13.5)


@pytest.mark.parametrize("value", [0.011, 0.3, 4.2, 29, 31, 700, 9000, 500_000])
def test_marks_of_the_axis_are_round_and_few(value):
    step = timeline.nice(value)
    assert value * 0.99 <= step <= value * 4


def test_pictures_of_metrics():
    matrix = {
        "annotationSpecs": [{"displayName": "a"}, {"displayName": "b"}],
        "rows": [{"row": [3, 1]}, {"row": [0, 2]}],
    }
    curve = [{"falsePositiveRate": 0.0, "recall": 1.0, "confidenceThreshold": 0.5}] * 2
    found = dict(charts.charts({"confusionMatrix": matrix, "confidenceMetrics": curve}))
    assert found["Confusion matrix"].count("cellval") == 4
    assert "a taken for b: 1" in found["Confusion matrix"]
    assert "area 1.0000" in found["ROC curve"]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"confusionMatrix": None, "confidenceMetrics": 3},
        {"confusionMatrix": {"annotationSpecs": [{}], "rows": [{"row": ["x"]}]}, "confidenceMetrics": [1, 2]},
        {"confusionMatrix": {"annotationSpecs": [{"displayName": "a"}] * 2, "rows": [{"row": [1]}]}},
        {"confidenceMetrics": [{"falsePositiveRate": "a", "recall": 1}] * 3},
    ],
)
def test_what_has_another_shape_is_no_picture(metadata):
    assert charts.charts(metadata) == []
