"""The language: values, errors, the compiler's words, and the limit on cost."""

import pytest

from headrace.apiserver.cel import types as t
from headrace.apiserver.cel.program import compile_text
from headrace.apiserver.cel.syntax import CompileError
from headrace.apiserver.cel.values import CostExceeded, EvalError


class Fields(dict):
    pass


OBJECT = t.Type("object", fields=Fields(foo=("foo", t.INT), __namespace__=("namespace", t.STRING)))
VARIABLES = {
    "any": t.DYN,
    "n": t.INT,
    "l": t.list_of(t.INT),
    "m": t.map_of(t.STRING, t.INT),
    "o": OBJECT,
    "texts": t.list_of(t.STRING),
}
DATA = {
    "any": {"x": 2, "deep": {"list": [1, "a", None]}},
    "n": 3,
    "l": [1, 2, 3],
    "m": {"a": 1, "b": 2},
    "o": {"foo": 1, "namespace": "z"},
    "texts": ["a", "b"],
}

TRUE = """
1 + 2 * 3 == 7
-7 / 2 == -3 && -7 % 2 == -1
- 3 < 2 && !false && --3 == 3
0x10 == 16 && 7u + 1u == 8u && 1e3 == 1000.0 && .5 == 0.5
'a' + "b" == r'ab' && '\\x41\\u0042\\103\\n' == 'ABC\\n' && '''it's''' == "it's"
b'\\xff' == b'\\377' && size(b'ä') == 2 && size('ä') == 1
1 < 1.5 && 2u > 1 && dyn(1.0) == dyn(1) && dyn(1) != dyn('1') && dyn(true) != dyn(1)
n > 2 ? true : l[99] == 1
false && l[99] == 1 || true
l[99] == 1 || true
n in l && !(9 in l) && 'a' in m && !('z' in m)
l.all(x, x > 0) && l.exists(x, x == 2) && l.exists_one(x, x == 2) && !l.exists_one(x, x > 1)
l.map(x, x * 2) == [2, 4, 6] && l.map(x, x > 1, x * 2) == [4, 6] && l.filter(x, x > 1) == [2, 3]
m.all(k, m[k] > 0) && m.map(k, k + '!') == ['a!', 'b!']
l.all(x, l.exists(y, y == x) && l.map(x, x + 1)[0] == 2)
has(o.foo) && !has(any.nope) && has(any.deep.list)
o.__namespace__ == 'z'
any.deep.list[1] == 'a' && any.deep.list[2] == null
any.?nope.orValue(5) == 5 && any.?x.value() == 2 && !any.?nope.?more.hasValue()
any[?'x'].hasValue() && l[?7].orValue(1) == 1 && any.?deep.list[?0].orValue(3) == 1
optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().optMap(x, x).hasValue()
optional.none().or(optional.of(2)).value() == 2 && optional.of(1).orValue(1 / 0) == 1
[?any.?nope, 1] == [dyn(1)] && {?'a': any.?nope, 'b': 1} == {'b': dyn(1)}
{'a': 1}.a == 1 && {'a': 1}['a'] == 1 && {1: 'x'}[1] == 'x'
type(1) == int && type('') == string && type([]) == list && type(null) == null_type
int('7') == 7 && int(7.9) == 7 && string(1.0) == '1' && string(1e21) == '1e+21' && double('1.5') == 1.5
bool('true') && string(true) == 'true' && string(b'x') == 'x' && bytes('x') == b'x'
duration('1h30m') == duration('90m') && duration('1.5s').getMilliseconds() == 1500
string(duration('90s')) == '90s' && duration('2h').getMinutes() == 120
timestamp('2024-02-29T10:00:00Z') + duration('24h') == timestamp('2024-03-01T10:00:00Z')
timestamp('2024-02-29T23:30:00Z').getDayOfMonth('+01:00') == 0
timestamp('2024-02-29T10:00:00.5Z').getMilliseconds() == 500 && timestamp('2024-02-29T10:00:00Z').getDayOfWeek() == 4
string(timestamp('2024-02-29T10:00:00.250+02:00')) == '2024-02-29T08:00:00.25Z'
'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.matches('^[a-c]+$') && !matches('x', 'y')
'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1b22'.findAll('[0-9]', 1) == ['1']
'hello'.charAt(1) == 'e' && 'hello'.indexOf('l') == 2 && 'hello'.indexOf('l', 3) == 3 && 'hello'.lastIndexOf('l') == 3
texts.join('-') == 'a-b' && 'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']
'AbÄ'.lowerAscii() == 'abÄ' && 'ab'.upperAscii() == 'AB' && ' x '.trim() == 'x' && 'abab'.replace('a', 'x', 1) == 'xbab'
'hello'.substring(1, 3) == 'el' && 'hello'.substring(3) == 'lo' && 'abc'.reverse() == 'cba'
'%s %d %.2f %x %s'.format(['a', 3, 1.5, 255, [1, 2]]) == 'a 3 1.50 ff [1, 2]'
strings.quote('a"b') == '"a\\\\"b"'
l.sum() == 6 && l.min() == 1 && l.max() == 3 && l.isSorted() && l.indexOf(2) == 1 && l.lastIndexOf(9) == -1
[1.5, 2.0].sum() == 3.5 && [duration('1s'), duration('2s')].sum() == duration('3s')
sets.contains([1, 2], [1]) && sets.equivalent([1, 2, 1], [2, 1]) && !sets.intersects([1], [2])
quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').asApproximateFloat() == 0.5
quantity('2k').asInteger() == 2000 && quantity('1k').add(quantity('1')).sub(1).compareTo(quantity('1k')) == 0
isQuantity('1.3Gi') && !isQuantity('200K') && quantity('-1').sign() == -1 && quantity('50k') == quantity('50000')
url('https://u@example.com:80/p%20q?k=1&k=2').getHost() == 'example.com:80' && isURL('/a') && !isURL('a b')
url('https://[::1]:80/').getHostname() == '::1' && url('https://x:80/').getPort() == '80'
url('https://x/?k=1&k=2').getQuery() == {'k': ['1', '2']} && url('https://x/a/b').getEscapedPath() == '/a/b'
ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('10.0.0') && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1')
cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && isCIDR('::/0')
cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && string(cidr('10.1.2.3/8').ip()) == '10.1.2.3'
!format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('a_b').hasValue()
format.named('qualifiedName').value().validate('a/b c').value().size() > 0 && !format.named('nope').hasValue()
"""


@pytest.mark.parametrize("text", [line for line in TRUE.split("\n") if line])
def test_what_is_true(text):
    assert compile_text(text, VARIABLES).run(DATA)[0] is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1 / 0 == 1", "division by zero"),
        ("1 % 0 == 1", "modulus by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("l[9] == 1", "index out of bounds: 9"),
        ("any.nope == 1", "no such key: nope"),
        ("m['z'] == 1", "no such key: z"),
        ("any.x == 1 && any.nope == 1 || any.nope == 2", "no such key: nope"),
        ("any.x + 'a' == 'b'", "no such overload"),
        ("any.x ? true : false", "no such overload"),
        ("any.deep.list.sum() == 1", "no such overload"),
        ("int('x') == 1", "invalid syntax"),
        ("timestamp('yesterday') == timestamp('now')", "it is not RFC 3339"),
        ("duration('1 day') == duration('1s')", "invalid duration"),
        ("quantity('200K') == quantity('1')", "quantities must match"),
        ("'a'.matches('(')", "error parsing regexp: missing )"),
        ("optional.none().value() == 1", "optional.none() dereference"),
        ("'%d'.format(['a']) == ''", "cannot be used on string"),
        ("'%s'.format([]) == ''", "index 0 out of range"),
        ("[].min() == 1", "min called on empty list"),
        ("'abc'.charAt(7) == ''", "index out of range: 7"),
        ("ip('1.2.3') == ip('::1')", "parse error"),
    ],
)
def test_what_has_no_value(text, why):
    with pytest.raises(EvalError, match=why.replace("(", r"\(").replace(")", r"\)")):
        compile_text(text, VARIABLES).run(DATA)


@pytest.mark.parametrize(
    ("text", "problem", "dots"),
    [
        ("nope > 1", "<input>:1:1: undeclared reference to 'nope' (in container '')", 0),
        ("o.fox > 1", "<input>:1:2: undefined field 'fox'", 1),
        ("1 + 'a' == 2", "<input>:1:3: found no matching overload for '_+_' applied to '(int, string)'", 2),
        ("n == 'a'", "<input>:1:3: found no matching overload for '_==_' applied to '(int, string)'", 2),
        (
            "n.startsWith('a')",
            "<input>:1:13: found no matching overload for 'startsWith' applied to 'int.(string)'",
            12,
        ),
        ("undef(1)", "<input>:1:6: undeclared reference to 'undef' (in container '')", 5),
        ("[1, 'a'] == []", "<input>:1:5: expected type 'int' but found 'string'", 4),
        ("n.all(x, true)", "<input>:1:1: expression of type 'int' cannot be range of a comprehension", 0),
        ("n.foo == 1", "<input>:1:2: type 'int' does not support field selection", 1),
        ("n > ", "<input>:1:5: Syntax error: mismatched input '<EOF>'", 4),
        ("n > 1 1", "<input>:1:7: Syntax error: mismatched input '1' expecting '<EOF>'", 6),
        ("'abc", "<input>:1:1: Syntax error: token recognition error at: ''abc'", 0),
        ("n # 1", "<input>:1:3: Syntax error: token recognition error at: '#'", 2),
        ("has(n)", "<input>:1:5: invalid argument to has() macro", 4),
        ("for > 1", "<input>:1:1: reserved identifier: for", 0),
        ("'\\q' == ''", "<input>:1:1: Syntax error: invalid escape sequence", 0),
        ("99999999999999999999 > 1", "<input>:1:1: invalid int literal", 0),
        ("(" * 500 + "1" + ")" * 500, "expression recursion limit exceeded", 120),
        ("1" + "+1" * 500 + " > 1", "expression recursion limit exceeded", None),
    ],
)
def test_what_the_compiler_refuses(text, problem, dots):
    with pytest.raises(CompileError) as refused:
        compile_text(text, VARIABLES)
    assert problem in str(refused.value)
    assert str(refused.value).startswith("ERROR: <input>:1:")
    if dots is not None:
        assert str(refused.value).split("\n")[2] == " | " + "." * dots + "^"


def test_a_problem_is_shown_in_its_line():
    with pytest.raises(CompileError) as refused:
        compile_text("n > 1 &&\n  nope", VARIABLES)
    assert str(refused.value).split("\n") == [
        "ERROR: <input>:2:3: undeclared reference to 'nope' (in container '')",
        " |   nope",
        " | ..^",
    ]


def test_the_variables_that_are_used_are_known():
    assert compile_text("l.all(n, n > 0) && o.foo == 1", VARIABLES).uses == {"l", "o"}


@pytest.mark.parametrize(
    "text",
    [
        "big.all(a, big.all(b, big.all(c, a + b + c >= 0)))",
        "big.map(a, big.map(b, big)) == big.map(a, big.map(b, big))",
        "big.exists(a, 'x'.replace('', text).replace('', text) == '')",
        "('%s' + '%s').format([text.replace('', text), text]).size() == 0",
        "big.all(a, text.matches('(a+)+(a+)+(a+)+$'))",
        "[[1]]" + ".map(x, [x, x, x, x, x, x, x, x])" * 30 + " == [dyn(1)]"
        " || [0]" + ".map(x, [x, x])" * 30 + " == [0]" + ".map(x, [x, x])" * 30,
    ],
)
def test_a_hostile_expression_ends(text):
    """Each would run for hours, or take all memory."""
    variables = {"big": t.list_of(t.INT), "text": t.STRING}
    with pytest.raises(CostExceeded):
        compile_text(text.replace("== [dyn(1)]", "== [[dyn(1)]]"), variables | {"big": t.DYN}).run(
            {"big": list(range(3000)), "text": "a" * 100_000}
        )
