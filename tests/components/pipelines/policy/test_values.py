"""Values, expressions and retries by table. Expected results are upstream's (see each module's sources)."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from headrace.components.pipelines.policy import expressions
from headrace.components.pipelines.policy.retry import next_attempt, seconds
from headrace.components.pipelines.policy.values import (
    ResolveError,
    canonical,
    check_literals,
    convert,
    items_of,
    to_text,
)
from headrace.components.pipelines.types.ir import InputParameter, RetryPolicy


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("a b", "a b"),
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (5.0, "5"),
        (2.50, "2.5"),
        (1e-7, "0.0000001"),
        (1e21, "1000000000000000000000"),
        (math.inf, "+Inf"),
        ([1, "a", None], '[1,"a",null]'),
        ({"b": 1.0, "a": {"é": "<"}}, '{"a":{"é":"<"},"b":1}'),
    ],
)
def test_text(value, text):
    assert to_text(value) == text


def test_whole_numbers_are_written_without_a_fraction():
    found = canonical({"a": [1.0, 2.5, True, 1e300]})

    assert found == {"a": [1, 2.5, True, 1e300]}
    assert type(found["a"][0]) is int
    assert found["a"][2] is True


@pytest.mark.parametrize(
    ("value", "wanted", "result"),
    [
        ("x", "STRING", "x"),
        (3, "STRING", "3"),
        ([1, 2], "STRING", "[1,2]"),
        (True, "STRING", "true"),
        (3.0, "NUMBER_INTEGER", 3),
        (3, "NUMBER_DOUBLE", 3),
        (True, "BOOLEAN", True),
        ([1], "LIST", [1]),
        ({"a": 1}, "STRUCT", {"a": 1}),
        ({"state": "FAILED"}, "TASK_FINAL_STATUS", {"state": "FAILED"}),
        ("3", "NUMBER_INTEGER", ResolveError),
        (True, "NUMBER_INTEGER", ResolveError),
        (1, "BOOLEAN", ResolveError),
        ({}, "LIST", ResolveError),
        ("[1]", "LIST", ResolveError),
        (None, "NUMBER_DOUBLE", ResolveError),
    ],
)
def test_conversion(value, wanted, result):
    if result is ResolveError:
        with pytest.raises(ResolveError, match=f"Input parameter 'x' must be {wanted}, but its value is a"):
            convert("x", value, wanted)
    else:
        assert convert("x", value, wanted) == result


def test_literals():
    parameter = InputParameter(parameter_type="STRING", literals=["a", "b"])

    check_literals("x", "a", parameter)
    with pytest.raises(ResolveError, match=r"""Input parameter 'x' is "c", but must be one of "a", "b"\."""):
        check_literals("x", "c", parameter)


def test_items():
    assert items_of([1.0, {"a": 2}]) == [1, {"a": 2}]
    assert items_of('["x", 3]') == ["x", 3]
    for wrong in ("[1", '{"a": 1}', 3, None):
        with pytest.raises(ResolveError, match="A loop needs a list"):
            items_of(wrong)


# expression_test.go, and what kfp's compiler writes (pipeline_spec_builder.py)
P = "inputs.parameter_values"


@pytest.mark.parametrize(
    ("expression", "parameters", "result"),
    [
        (f"{P}['type']=='foo'", {"type": "foo"}, True),
        (f"{P}['type']=='foo2'", {"type": "foo"}, False),
        (f"{P}['num'] == 1", {"num": 1}, True),
        (f"{P}['type']=='foo' && {P}['num'] == 1.0", {"type": "foo", "num": 1}, True),
        (f"!({P}['a'] == 'x') && {P}['a'] == 'y'", {"a": "y"}, True),
        (f"int({P}['n']) > 5", {"n": 7}, True),
        (f"int({P}['n']) == 5", {"n": 5.0}, True),
        (f"int({P}['n']) >= -3", {"n": -2}, True),
        (f"{P}['x'] >= 0.95", {"x": 1}, True),
        (f"{P}['x'] == true", {"x": True}, True),
        (f"{P}['x'] == 'it\\'s \"so\"'", {"x": 'it\'s "so"'}, True),
        (f"parseJson({P}['x'])[\"a\"][0] == 2", {"x": '{"a": [2]}'}, True),
        (f"{P}['x'] < 'b' || false", {"x": "a"}, True),
    ],
)
def test_conditions(expression, parameters, result):
    assert expressions.condition(expression, parameters) is result


def test_conditions_over_artifacts():
    model = {"model": {"artifacts": [{"name": "m", "metadata": {"accuracy": 0.95}}]}}

    assert expressions.condition("inputs.artifacts['model'].artifacts[0].metadata['accuracy']*100.0 > 90.0", {}, model)


@pytest.mark.parametrize(
    ("expression", "parameters", "sentence"),
    [
        (f"{P}['type']=='foo'", {}, "uses 'type', which is not there"),
        (f"{P}['x']", {"x": "a"}, "it must give true or false"),
        (f"{P}['x'] ==", {"x": "a"}, r"cannot be evaluated: syntax error: mismatched input '<EOF>'\.$"),
        (f"{P}['x'] && true", {"x": "a"}, "cannot be evaluated"),
        (f"parseJson({P}['x']) == 1", {"x": "{"}, "parseJson got text that is not JSON"),
        ("nothing == 1", {}, "cannot be evaluated"),
    ],
)
def test_conditions_that_fail(expression, parameters, sentence):
    with pytest.raises(ResolveError, match=sentence):
        expressions.condition(expression, parameters)


STRUCT = {"nested": {"a": "A", "b": "B"}, "list": [1, 2]}


@pytest.mark.parametrize(
    ("value", "expression", "result"),
    [
        ("Hello,World!", "string_value", "Hello,World!"),
        ("[1.1,1.2,1.3]", "parseJson(string_value)[0]", 1.1),
        ({"a": 1}, 'parseJson(string_value)["a"]', 1),
        (None, "string_value", ""),
        ({"a": "A"}, "struct_value.a", "A"),
        (STRUCT, "struct_value.list", [1, 2]),
        (STRUCT, "struct_value.nested", {"a": "A", "b": "B"}),
        (STRUCT, "struct_value.nested.b", "B"),
    ],
)
def test_selectors(value, expression, result):
    assert expressions.select(expression, value) == result


@pytest.mark.parametrize(
    ("value", "expression"),
    [("invalidjson", "parseJson(string_value)"), ("Hello", "struct_value"), ({"a": "A"}, "struct_value.c")],
)
def test_selectors_that_fail(value, expression):
    with pytest.raises(ResolveError):
        expressions.select(expression, value)


START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(("text", "result"), [("60s", 60.0), ("0.5s", 0.5), ("", 0.0), ("1m", 0.0)])
def test_durations(text, result):
    assert seconds(text) == result


@pytest.mark.parametrize(
    ("policy", "attempt", "waited", "wait"),
    [
        (None, 0, 0, None),
        (RetryPolicy(max_retry_count=0), 0, 0, None),
        (RetryPolicy(max_retry_count=2), 0, 0, 0),
        (RetryPolicy(max_retry_count=2), 2, 0, None),
        (RetryPolicy(max_retry_count=3, backoff_duration="10s"), 2, 0, 10),
        (RetryPolicy(max_retry_count=3, backoff_duration="10s", backoff_factor=2.0), 2, 0, 40),
        (RetryPolicy(max_retry_count=9, backoff_duration="10s", backoff_max_duration="60s"), 1, 49, 10),
        (RetryPolicy(max_retry_count=9, backoff_duration="10s", backoff_max_duration="60s"), 1, 51, None),
        (RetryPolicy(max_retry_count=9999, backoff_duration="1s", backoff_factor=10.0), 5000, 0, 10 * 365 * 86400),
    ],
)
def test_when_the_next_attempt_begins(policy, attempt, waited, wait):
    now = START + dt.timedelta(seconds=waited)
    due = next_attempt(policy, attempt, START, now)

    assert due == (None if wait is None else now + dt.timedelta(seconds=wait))
