"""CEL rules of custom kinds: what a definition may say, what objects may be, what an update is forgiven."""

import pytest

from headrace.apiserver.schema.structural import CustomSchema
from headrace.apiserver.schema.validations import OBJECT_LIMIT, check_rules

STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def spec(properties, *rules, **more):
    return {"type": "object", "properties": properties, "x-kubernetes-validations": list(rules), **more}


def schema(properties, *rules, **more):
    return CustomSchema({"type": "object", "properties": {"spec": spec(properties, *rules, **more)}})


def obj(**values):
    return {"apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"}, "spec": values}


def told(made, new, old=None):
    return [(c.field, c.message) for c in made.causes(new, old)]


@pytest.mark.parametrize(
    ("rule", "good", "bad", "field", "message"),
    [
        ({"rule": "self.a < self.b"}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, "spec", "failed rule: self.a < self.b"),
        ({"rule": "self.a < self.b", "message": "a first "}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, "spec", "a first"),
        (
            {"rule": "self.a > 0", "message": "no", "messageExpression": "'a is %d'.format([self.a])"},
            {"a": 1},
            {"a": -1},
            "spec",
            "a is -1",
        ),
        ({"rule": "self.a > 0", "message": "no", "messageExpression": "' '"}, {"a": 1}, {"a": -1}, "spec", "no"),
        ({"rule": "self.a > 0", "fieldPath": ".a", "message": "m"}, {"a": 1}, {"a": 0}, "spec.a", "m"),
        (
            {"rule": "self.a != self.b", "fieldPath": "['s-x']", "message": "m"},
            {"a": 1, "b": 2},
            {"a": 1, "b": 1},
            "spec.s-x",
            "m",
        ),
        ({"rule": "has(self.a) || has(self.b)", "message": "one"}, {"b": 1}, {}, "spec", "one"),
        ({"rule": "self.s__dash__x == 'y'", "message": "m"}, {"s-x": "y"}, {"s-x": "z"}, "spec", "m"),
        ({"rule": "self.__namespace__ == 'y'", "message": "m"}, {"namespace": "y"}, {"namespace": "z"}, "spec", "m"),
        ({"rule": "self.namespace == 'y'", "message": "m"}, {"namespace": "y"}, {"namespace": "z"}, "spec", "m"),
        ({"rule": "self.d > duration('1m')", "message": "m"}, {"d": "2m"}, {"d": "2s"}, "spec", "m"),
        (
            {"rule": "self.t.getFullYear() > 2000", "message": "m"},
            {"t": "2024-01-01T00:00:00Z"},
            {"t": "1999-01-01T00:00:00Z"},
            "spec",
            "m",
        ),
        ({"rule": "size(self.bytes) == 2", "message": "m"}, {"bytes": "aGk="}, {"bytes": "aGll"}, "spec", "m"),
        ({"rule": "self.number == 1.0", "message": "m"}, {"number": 1}, {"number": 2}, "spec", "m"),
        ({"rule": "self.set == ['a', 'b']", "message": "m"}, {"set": ["b", "a"]}, {"set": ["a"]}, "spec", "m"),
        ({"rule": "type(self.port) == int", "message": "m"}, {"port": 80}, {"port": "http"}, "spec", "m"),
        (
            {"rule": "self.labels.all(k, k.size() < 3)", "message": "m"},
            {"labels": {"a": "b"}},
            {"labels": {"abc": ""}},
            "spec",
            "m",
        ),
    ],
)
def test_a_rule(rule, good, bad, field, message):
    properties = {
        "a": INTEGER,
        "b": INTEGER,
        "s-x": STRING,
        "namespace": STRING,
        "d": {"type": "string", "format": "duration"},
        "t": {"type": "string", "format": "date-time"},
        "bytes": {"type": "string", "format": "byte"},
        "number": {"type": "number"},
        "set": {"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
        "port": {"x-kubernetes-int-or-string": True},
        "labels": {"type": "object", "additionalProperties": STRING},
    }
    made = schema(properties, rule)
    assert told(made, obj(**good)) == []
    assert told(made, obj(**bad)) == [(field, f'Invalid value: "object": {message}')]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("FieldValueForbidden", "Forbidden: m"),
        ("FieldValueRequired", "Required value: m"),
        ("FieldValueDuplicate", 'Duplicate value: "object"'),
        ("FieldValueInvalid", 'Invalid value: "object": m'),
    ],
)
def test_a_rule_says_its_reason(reason, message):
    made = schema({"a": INTEGER}, {"rule": "false", "message": "m", "reason": reason})
    (cause,) = made.causes(obj(a=1))
    assert (cause.reason, cause.message) == (reason, message)


def test_rules_stand_anywhere():
    item = {"type": "object", "properties": {"n": INTEGER}, "x-kubernetes-validations": [{"rule": "self.n > 0"}]}
    positive = {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0", "message": "m"}]}
    made = schema(
        {
            "list": {"type": "array", "items": item},
            "map": {"type": "object", "additionalProperties": positive},
            "nullable": {**positive, "nullable": True},
        }
    )
    assert told(made, obj(list=[{"n": 1}, {"n": 0}], map={"k": 0, "l": 1}, nullable=None)) == [
        ("spec.list[1]", 'Invalid value: "object": failed rule: self.n > 0'),
        ("spec.map[k]", 'Invalid value: "integer": m'),
    ]


def test_rules_of_all_parts_hold():
    made = schema({"a": INTEGER}, {"rule": "self.a > 0", "message": "1"}, allOf=[spec({}, {"rule": "self.a < 9"})])
    assert told(made, obj(a=5)) == []
    assert told(made, obj(a=10)) == [("spec", 'Invalid value: "object": failed rule: self.a < 9')]


def test_a_rule_at_the_root_sees_the_name_and_nothing_else_of_metadata():
    root = {"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name == 'x' && self.kind == 'X'"}]}
    assert CustomSchema(root).causes(obj()) == []
    other = {"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.labels.size() > 0"}]}
    (cause,) = check_rules(other, "here", root=True, uncorrelated="")
    assert "undefined field 'labels'" in cause.message


def test_an_error_in_a_rule_is_the_objects_fault():
    made = schema({"a": INTEGER, "b": INTEGER}, {"rule": "self.b > 0"})
    assert told(made, obj(a=1)) == [("spec", 'Invalid value: "object": no such key: b evaluating rule: self.b > 0')]


def test_an_overload_that_only_the_value_decides():
    made = schema({"p": {"x-kubernetes-int-or-string": True}}, {"rule": "self.p > 5"})
    assert told(made, obj(p=6)) == []
    ((field, message),) = told(made, obj(p="x"))
    assert field == "spec"
    assert "'no such overload': call arguments did not match a supported operator" in message


def test_rules_wait_until_the_object_is_well_formed():
    made = schema({"a": INTEGER}, {"rule": "self.a > 0"}, required=["a"])
    (first, second) = told(made, obj())
    assert first[0] == "spec.a"
    assert "some validation rules were not checked because the object was invalid" in second[1]


def test_a_transition_rule_needs_an_old_value():
    made = schema({"a": INTEGER}, {"rule": "self.a == oldSelf.a", "message": "a is immutable"})
    assert told(made, obj(a=1)) == []
    assert told(made, obj(a=1), obj(a=1)) == []
    assert told(made, obj(a=2), obj(a=1)) == [("spec", 'Invalid value: "object": a is immutable')]


def test_an_optional_old_value_is_asked_for():
    rule = {"rule": "oldSelf.hasValue() || self.a == 1", "optionalOldSelf": True, "message": "starts with 1"}
    made = schema({"a": INTEGER}, rule)
    assert told(made, obj(a=1)) == []
    assert told(made, obj(a=2)) == [("spec", 'Invalid value: "object": starts with 1')]
    assert told(made, obj(a=2), obj(a=1)) == []


def test_elements_are_matched_by_their_keys():
    items = {
        "type": "object",
        "properties": {"k": STRING, "v": INTEGER},
        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "grows"}],
    }
    keyed = {"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    made = schema({"l": keyed})
    old = obj(l=[{"k": "a", "v": 1}, {"k": "b", "v": 5}])
    assert told(made, obj(l=[{"k": "b", "v": 6}, {"k": "c", "v": 0}]), old) == []
    assert told(made, obj(l=[{"k": "b", "v": 4}]), old) == [("spec.l[0]", 'Invalid value: "object": grows')]


def test_what_was_stored_is_forgiven_until_it_changes():
    inner = spec({"x": INTEGER}, {"rule": "self.x > 0", "message": "positive"})
    made = schema({"part": inner, "s": {"type": "string", "maxLength": 3}, "other": INTEGER})
    stored = obj(part={"x": 0}, s="too long", other=1)
    assert len(told(made, stored)) == 2
    assert told(made, obj(part={"x": 0}, s="too long", other=2), stored) == []
    assert [f for f, _ in told(made, obj(part={"x": -1}, s="too long", other=2), stored)] == ["spec.part"]
    assert told(made, obj(part={"x": 0}, s="too short", other=2), stored)[0][0] == "spec.s"


def test_the_cost_of_one_rule_is_limited():
    deep = "self.l.all(a, self.l.all(b, self.l.all(c, a + b + c >= 0)))"
    made = schema({"l": {"type": "array", "items": INTEGER}}, {"rule": deep}, {"rule": "false"})
    assert told(made, obj(l=[1])) == [("spec", 'Invalid value: "object": failed rule: false')]
    ((_, message),) = told(made, obj(l=list(range(300))))
    assert "no further validation rules will be run due to call cost exceeds limit for rule: self.l.all" in message


def test_the_cost_of_all_rules_is_limited():
    rule = {"rule": "self.l.all(a, self.l.all(b, a + b >= 0))"}
    many = OBJECT_LIMIT // 400_000
    made = schema({"l": {"type": "array", "items": INTEGER}}, *[rule] * (2 * many))
    ((_, message),) = told(made, obj(l=list(range(250))))
    assert "validation failed due to running out of cost budget" in message


@pytest.mark.parametrize(
    ("rule", "field", "message"),
    [
        ({"rule": " "}, "rule", "Required value: rule is not specified"),
        (
            {"rule": "self.nope > 1"},
            "rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^",
        ),
        ({"rule": "self.a"}, "rule", "cel expression must evaluate to a bool"),
        ({"rule": "authorizer.path('/').check('get').allowed()"}, "rule", "undeclared reference to 'authorizer'"),
        ({"rule": "true", "message": "a\nb"}, "message", "message must not contain line breaks"),
        ({"rule": "true ||\n false"}, "message", "message must be specified if rule contains line breaks"),
        ({"rule": "true", "reason": "Because"}, "reason", 'Unsupported value: "Because"'),
        ({"rule": "true", "fieldPath": ".nope"}, "fieldPath", "does not refer to a valid field"),
        ({"rule": "true", "fieldPath": "a"}, "fieldPath", "expected [ or . but got: a"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression", "must evaluate to a string"),
        ({"rule": "true", "messageExpression": "self.b"}, "messageExpression", "messageExpression compilation failed"),
        ({"rule": "true", "optionalOldSelf": True}, "optionalOldSelf", "may not be set if oldSelf is not used in rule"),
    ],
)
def test_what_a_definition_may_not_say(rule, field, message):
    made = spec({"a": INTEGER, "b": INTEGER}, rule)
    del made["properties"]["b"]
    (cause,) = check_rules(made, "here", root=False, uncorrelated="")
    assert cause.field == f"here.x-kubernetes-validations[0].{field}"
    assert message in cause.message.replace("\\n", "\n")


def test_an_old_element_of_a_list_without_keys_is_not_known():
    (cause,) = check_rules(spec({}, {"rule": "self == oldSelf"}), "here", root=False, uncorrelated="spec.l")
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.l" in cause.message
