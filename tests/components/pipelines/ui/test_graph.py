"""The drawing of tasks: where boxes stand, what folds, that nothing in it runs."""

from __future__ import annotations

import re

import pytest

from headrace.components.pipelines.types.ir import parse_pipeline_spec
from headrace.components.pipelines.ui.graph import FOLD_ABOVE, Box, Links, begins_shut, boxes_of, draw, layers
from headrace.components.pipelines.ui.states import widths

HOSTILE = '"><script>alert(1)</script>'
SPEC = {
    "pipelineInfo": {"name": "nested"},
    "schemaVersion": "2.1.0",
    "root": {
        "dag": {
            "tasks": {
                "prepare": {"taskInfo": {"name": "prepare"}, "componentRef": {"name": "comp-prepare"}},
                "for-loop-1": {
                    "taskInfo": {"name": "for-loop-1"},
                    "componentRef": {"name": "comp-loop"},
                    "dependentTasks": ["prepare"],
                    "parameterIterator": {"itemInput": "x", "items": {"raw": "[1, 2]"}},
                    "iteratorPolicy": {"parallelismLimit": 2},
                },
            }
        }
    },
    "components": {
        "comp-prepare": {"executorLabel": "exec"},
        "comp-loop": {
            "inputDefinitions": {"parameters": {"x": {"parameterType": "NUMBER_INTEGER"}}},
            "dag": {"tasks": {"fit": {"taskInfo": {"name": "fit"}, "componentRef": {"name": "comp-prepare"}}}},
        },
    },
    "deploymentSpec": {"executors": {"exec": {"container": {"image": "python:3.11", "command": ["true"]}}}},
}


def links(shut: bool = False, chosen: str = "") -> Links:
    return Links(lambda box: f"/t/{len(box.key)}", lambda box: f"?fold={len(box.key)}", lambda _box: shut, chosen)


def drawn(boxes: list[Box], shut: bool = False, chosen: str = "") -> str:
    return draw(boxes, links(shut, chosen), "A graph")


def test_layers_follow_the_longest_way():
    boxes = [Box("d", "d", after=["a", "c"]), Box("a", "a"), Box("b", "b", after=["a"]), Box("c", "c", after=["b"])]
    assert [[box.key for box in row] for row in layers(boxes)] == [["a"], ["b"], ["c"], ["d"]]


def test_a_circle_and_what_is_not_there_do_no_harm():
    boxes = [Box("a", "a", after=["b", "gone", "a"]), Box("b", "b", after=["a"])]
    assert {box.key for row in layers(boxes) for box in row} == {"a", "b"}
    assert drawn(boxes).count('class="node"') == 2


def test_a_pipeline_shows_its_groups_and_what_they_do():
    boxes = boxes_of(parse_pipeline_spec(SPEC))
    assert [(b.key, b.note) for b in boxes] == [("prepare", "prepare"), ("for-loop-1", "loop, 2 at a time")]
    assert [b.key for b in boxes[1].children] == ["for-loop-1/fit"]
    assert boxes[1].after == ["prepare"]
    text = drawn(boxes)
    assert ">fit<" in text
    assert text.count('class="edge"') == 1
    assert "Fold for-loop-1" in text


def test_a_folded_group_is_one_box_that_says_how_much_is_in_it():
    boxes = boxes_of(parse_pipeline_spec(SPEC))
    text = drawn(boxes, shut=True)
    assert ">fit<" not in text
    assert "Unfold for-loop-1" in text
    assert "loop, 2 at a time · 1" in text


def test_the_chosen_box_and_the_states_of_a_group_are_marked():
    group = Box("g", "g", children=[Box("g/a", "a"), Box("g/b", "b")], shares={"ok": 1, "bad": 1}, kind="bad")
    text = drawn([group], shut=True, chosen="g")
    assert 'class="node sel"' in text
    assert len(re.findall(r'class="mark (?:ok|bad)"', text)) == 3


def test_many_tasks_begin_folded_and_stay_within_the_width_of_a_screen():
    boxes = [Box("g", "group", children=[Box(f"g/{i}", f"t{i}") for i in range(FOLD_ABOVE + 1)])]
    assert begins_shut(boxes)
    assert not begins_shut(boxes[0].children[:3])
    width = re.search(r'width="(\d+)"', drawn(boxes))
    assert width is not None
    assert int(width[1]) < 1600


def test_thousands_of_boxes_are_bounded():
    text = drawn([Box(str(i), str(i)) for i in range(5000)])
    assert text.count('class="node"') == 1500


def test_hostile_names_are_only_text():
    text = drawn([Box(HOSTILE, HOSTILE, HOSTILE, after=[HOSTILE])])
    assert "<script>" not in text
    assert "alert(1)" in text


def test_an_arrow_past_other_boxes_goes_around_them():
    boxes = [Box("a", "a"), Box("b", "b", after=["a"]), Box("c", "c", after=["b", "a"])]
    text = drawn(boxes)
    inner = re.search(r'<rect x="([\d.]+)" y="98.0" width="([\d.]+)"', text)
    assert inner is not None
    left, right = float(inner[1]), float(inner[1]) + float(inner[2])
    lanes = [float(x) for x in re.findall(r"L([\d.]+) ", text)]
    assert len(lanes) == 1
    assert not left <= lanes[0] <= right
    assert 0 <= lanes[0] <= float(re.search(r'width="(\d+)"', text)[1])


def test_no_state_is_too_thin_to_be_seen():
    shares = widths({"ok": 999, "bad": 1, "wait": 0})
    assert set(shares) == {"ok", "bad"}
    assert shares["bad"] > 0.05
    assert sum(shares.values()) == pytest.approx(1.0)
    assert widths({}) == {}
