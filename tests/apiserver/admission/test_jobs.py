"""Rules of jobs by tables: what is sent, which field is named with which words."""

import pytest

from headrace.api.batch import Job
from headrace.apiserver.admission import defaults, rules

INDEXED = {"completionMode": "Indexed", "completions": 5}
PER_INDEX = {**INDEXED, "backoffLimitPerIndex": 1}


def causes(spec, restart="Never"):
    template = {"spec": {"containers": [{"name": "c", "image": "i:1"}], "restartPolicy": restart}}
    obj = {"kind": "Job", "metadata": {"name": "x"}, "spec": {"template": template, **spec}}
    defaults.fill(Job.INFO, obj)
    return rules.check(Job.INFO, obj)


def failing(*found, **more):
    return {"podFailurePolicy": {"rules": list(found)}, **more}


def codes(action="Count", operator="In", values=(1,), **more):
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values), **more}}


def succeeding(*found):
    return {**INDEXED, "successPolicy": {"rules": list(found)}}


@pytest.mark.parametrize(
    "spec",
    [
        PER_INDEX,
        {**PER_INDEX, "maxFailedIndexes": 5},
        failing(codes(), codes("FailJob", "NotIn", (0, 1, 7), containerName="c")),
        failing({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}, podReplacementPolicy="Failed"),
        {**PER_INDEX, **failing(codes("FailIndex"))},
        succeeding(
            {"succeededIndexes": "0,2-4", "succeededCount": 3}, {"succeededCount": 5}, {"succeededIndexes": "1"}
        ),
        {"podReplacementPolicy": "TerminatingOrFailed"},
        {"managedBy": "acme.io/jobs"},
    ],
)
def test_these_are_taken(spec):
    assert causes(spec) == []


S = "spec.successPolicy.rules[0]"
F = "spec.podFailurePolicy.rules[0]"


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex", "requires indexed completion mode"),
        ({"successPolicy": {"rules": []}}, "spec.successPolicy", "requires indexed completion mode"),
        ({**INDEXED, "maxFailedIndexes": 1}, "spec.backoffLimitPerIndex", "when maxFailedIndexes is specified"),
        ({**PER_INDEX, "maxFailedIndexes": 6}, "spec.maxFailedIndexes", "less than or equal to completions"),
        ({**PER_INDEX, "completions": 100_001}, "spec.maxFailedIndexes", "must be specified when completions is above"),
        (
            {**PER_INDEX, "completions": 100_001, "maxFailedIndexes": 10_001},
            "spec.maxFailedIndexes",
            "less than or equal to 10000",
        ),
        (
            {**PER_INDEX, "completions": 100_001, "maxFailedIndexes": 1, "parallelism": 10_001},
            "spec.parallelism",
            "less than or equal to 10000",
        ),
        (failing(codes("Odd")), f"{F}.action", "supported values"),
        (failing(codes("FailIndex")), f"{F}.action", "requires the backoffLimitPerIndex to be set"),
        (failing({"action": "Count"}), F, "one of OnExitCodes and OnPodConditions is required"),
        (failing({**codes(), "onPodConditions": [{"type": "A"}]}), F, "both OnExitCodes and OnPodConditions"),
        (failing(codes(operator="Near")), f"{F}.onExitCodes.operator", "supported values"),
        (failing(codes(values=(0,))), f"{F}.onExitCodes.values[0]", "must not be 0"),
        (failing(codes(values=())), f"{F}.onExitCodes.values", "at least one value"),
        (failing(codes(values=(2, 1))), f"{F}.onExitCodes.values", "must be ordered"),
        (failing(codes(values=(1, 1))), f"{F}.onExitCodes.values[1]", "Duplicate value"),
        (failing(codes(values=range(1, 300))), f"{F}.onExitCodes.values", "Too many"),
        (failing(codes(containerName="z")), f"{F}.onExitCodes.containerName", "one of the container or initContainer"),
        (failing({"action": "Count", "onPodConditions": [{}]}), f"{F}.onPodConditions[0].type", "Required"),
        (
            failing({"action": "Count", "onPodConditions": [{"type": "A", "status": "Odd"}]}),
            f"{F}.onPodConditions[0].status",
            "supported values",
        ),
        (failing(*[codes()] * 21), "spec.podFailurePolicy.rules", "Too many"),
        (failing(codes(), podReplacementPolicy="TerminatingOrFailed"), "spec.podReplacementPolicy", '"Failed"'),
        ({"podReplacementPolicy": "Odd"}, "spec.podReplacementPolicy", "TerminatingOrFailed"),
        (succeeding(), "spec.successPolicy.rules", "at least one"),
        (succeeding({}), S, "at least one of succeededCount or succeededIndexes"),
        (succeeding({"succeededCount": 6}), f"{S}.succeededCount", "number of specified completions"),
        (
            succeeding({"succeededCount": 2, "succeededIndexes": "1"}),
            f"{S}.succeededCount",
            "number of indexes in the specified succeededIndexes",
        ),
        (succeeding({"succeededIndexes": "1-5"}), f"{S}.succeededIndexes", "too large index"),
        (succeeding({"succeededIndexes": "2,1"}), f"{S}.succeededIndexes", "non-increasing order"),
        (succeeding({"succeededIndexes": "3-2"}), f"{S}.succeededIndexes", "non-increasing order"),
        (succeeding({"succeededIndexes": "a"}), f"{S}.succeededIndexes", "not an index"),
        (succeeding(*[{"succeededCount": 1}] * 21), "spec.successPolicy.rules", "Too many"),
        ({"managedBy": "plain"}, "spec.managedBy", "domain-prefixed path"),
        ({"managedBy": "a.io/" + "x" * 60}, "spec.managedBy", "Too long"),
    ],
)
def test_these_are_refused(spec, field, words):
    found = causes(spec)
    assert [c.field for c in found] == [field]
    assert words in found[0].message


@pytest.mark.parametrize("spec", [failing(codes()), PER_INDEX])
def test_pods_of_such_jobs_never_restart(spec):
    (found,) = causes(spec, "OnFailure")
    assert found.field == "spec.template.spec.restartPolicy"
    assert 'only "Never" is supported' in found.message
