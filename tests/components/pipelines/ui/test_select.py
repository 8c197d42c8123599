"""Which tasks a selection means."""

from __future__ import annotations

import pytest

from headrace.components.pipelines.store.models import RuntimeState, TaskRow, TaskType
from headrace.components.pipelines.types.ir import parse_pipeline_spec
from headrace.components.pipelines.ui import select

DOCUMENT = {
    "pipelineInfo": {"name": "p"},
    "schemaVersion": "2.1.0",
    "root": {
        "dag": {
            "tasks": {
                "load": {"taskInfo": {"name": "load"}, "componentRef": {"name": "comp-x"}},
                "each": {
                    "taskInfo": {"name": "each"},
                    "componentRef": {"name": "comp-loop"},
                    "dependentTasks": ["load"],
                    "parameterIterator": {"itemInput": "x", "items": {"raw": "[1, 2]"}},
                },
                "report": {
                    "taskInfo": {"name": "report"},
                    "componentRef": {"name": "comp-x"},
                    "dependentTasks": ["each"],
                },
                "aside": {"taskInfo": {"name": "aside"}, "componentRef": {"name": "comp-x"}},
            }
        }
    },
    "components": {
        "comp-x": {"executorLabel": "exec"},
        "comp-loop": {
            "dag": {
                "tasks": {
                    "train": {"taskInfo": {"name": "train"}, "componentRef": {"name": "comp-x"}},
                    "score": {
                        "taskInfo": {"name": "score"},
                        "componentRef": {"name": "comp-x"},
                        "dependentTasks": ["train"],
                    },
                }
            }
        },
    },
    "deploymentSpec": {"executors": {"exec": {"container": {"image": "x", "command": ["x"]}}}},
}
SPEC = parse_pipeline_spec(DOCUMENT)


def row(ident: str, path: str, kind: TaskType = TaskType.RUNTIME, parent: str | None = "root", **more) -> TaskRow:
    name = path.rpartition("/")[2]
    return TaskRow(ident, "r", path, more.pop("name", name), kind, parent, **more)


def run() -> list[TaskRow]:
    rows = [
        row("root", "root", TaskType.ROOT, None),
        row("load", "root/load", state=RuntimeState.SUCCEEDED, cached_from="other"),
        row("each", "root/each", TaskType.LOOP, state=RuntimeState.FAILED),
        row("report", "root/report", display_name="The report"),
        row("aside", "root/aside", state=RuntimeState.SUCCEEDED),
    ]
    for index in range(2):
        state = RuntimeState.FAILED if index else RuntimeState.SUCCEEDED
        scope = f"i{index}"
        rows.append(
            row(scope, f"root/each/{index}", TaskType.DAG, "each", name="each", iteration_index=index, state=state)
        )
        rows.append(row(f"train{index}", f"root/each/{index}/train", parent=scope, state=state))
        rows.append(row(f"score{index}", f"root/each/{index}/score", parent=scope))
    return rows


EACH = {"each", "i0", "i1", "train0", "train1", "score0", "score1"}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("load", {"load"}),
        ("LOAD report", {"load", "report"}),
        ("the*", {"report"}),
        ("each/1/*", {"train1", "score1"}),
        ("each", EACH),
        ("train", {"train0", "train1"}),
        ("load+", {"load", "report"} | EACH),
        ("+report", {"load", "report"} | EACH),
        ("each/0/train+", {"train0", "score0", "report"}),
        ("+each/1/score", {"score1", "train1", "load"}),
        ("+load+", {"load", "report"} | EACH),
        ("state:failed", {"train1"}),
        ("state:cached", {"load"}),
        ("state:waiting", {"report", "score0", "score1"}),
        ("type:loop", EACH),
        ("train,state:failed", {"train1"}),
        ("state:failed,load", set()),
        ("nothing", set()),
    ],
)
def test_words_mean_tasks(query, found):
    tasks = run()
    assert select.chosen(query, tasks, select.edges(tasks, SPEC)) == found


@pytest.mark.parametrize(
    ("query", "words"),
    [("state:broken", "no state broken"), ("type:x", "no kind x"), ("+", "beside a name"), ("a " * 21, "20 words")],
)
def test_what_cannot_be_read_is_said(query, words):
    with pytest.raises(select.SelectionError, match=words):
        select.chosen(query, run(), {})


def test_without_a_spec_names_are_found_and_nothing_follows():
    tasks = run()
    assert select.edges(tasks, None) == {}
    assert select.chosen("load+", tasks, {}) == {"load"}


def test_scopes_of_a_task_are_shown_with_it():
    assert select.with_scopes({"train1"}, run()) == {"root", "each", "i1", "train1"}
