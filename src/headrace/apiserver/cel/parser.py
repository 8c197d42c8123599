"""Text to tree: precedence climbing, so that nesting costs little stack; the tree's depth is bounded."""

from __future__ import annotations

import re
from typing import NoReturn

from headrace.apiserver.cel.syntax import (
    Call,
    CompileError,
    Fold,
    Ident,
    Literal,
    Logic,
    Mapping,
    Node,
    Select,
    Sequence,
)
from headrace.apiserver.cel.values import INT_MAX, UInt

MAX_DEPTH = 120
MAX_LENGTH = 100_000
_TOKEN = re.compile(
    r"""(?P<space>(?:\s+|//[^\n]*)+)
    |(?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"|'''|"|'))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?
        |[0-9]+[eE][+-]?[0-9]+|[0-9]+[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<op>&&|\|\||==|!=|<=|>=|\.\?|\[\?|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_BINARY = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!=", "in"), 3),
    **dict.fromkeys(("+", "-"), 4),
    **dict.fromkeys(("*", "/", "%"), 5),
}
RESERVED = frozenset(
    (
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    )
)
_FOLDS = frozenset({"all", "exists", "exists_one", "existsOne", "filter", "map", "optMap", "optFlatMap"})
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPES |= {c: c for c in "\\?\"'`"}
_Token = tuple[str, str, int]


def parse(source: str) -> Node:
    """The tree. Raises CompileError."""
    if len(source) > MAX_LENGTH:
        raise CompileError(source[:80], [(0, f"Syntax error: expression is longer than {MAX_LENGTH} characters")])
    return _Parser(source).whole()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = self._scan()
        self._next = 0
        self._level = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._kind() != "end":
            self._unexpected("'<EOF>'")
        return node

    def _fail(self, at: int, text: str) -> NoReturn:
        raise CompileError(self._source, [(at, text)])

    def _scan(self) -> list[_Token]:
        source, at, out = self._source, 0, []
        while at < len(source):
            match = _TOKEN.match(source, at)
            if match is None:
                self._fail(at, f"Syntax error: token recognition error at: '{source[at]}'")
            kind, text = match.lastgroup or "", match.group()
            if kind == "string":
                text, end = self._string_token(text, at)
                out.append(("string", text, at))
                at = end
                continue
            if kind != "space":
                out.append((kind, text, at))
            at = match.end()
        out.append(("end", "<EOF>", len(source)))
        return out

    def _string_token(self, opening: str, at: int) -> tuple[str, int]:
        prefix = opening.rstrip("\"'").lower()
        quote = opening[len(prefix) :]
        start = i = at + len(opening)
        source = self._source
        while not source.startswith(quote, i):
            if i >= len(source) or (source[i] == "\n" and len(quote) == 1):
                self._fail(at, f"Syntax error: token recognition error at: '{source[at : at + 20]}'")
            i += 2 if source[i] == "\\" and "r" not in prefix else 1
        return source[at : at + len(opening)] + source[start:i], i + len(quote)

    def _kind(self) -> str:
        return self._tokens[self._next][0]

    def _peek(self) -> str:
        kind, text, _ = self._tokens[self._next]
        return text if kind in {"op", "name"} else ""

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _accept(self, text: str) -> bool:
        if self._peek() == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._unexpected(f"'{text}'")

    def _unexpected(self, wanted: str) -> NoReturn:
        _, text, at = self._tokens[self._next]
        self._fail(at, f"Syntax error: mismatched input '{text}' expecting {wanted}")

    def _deep(self, at: int, *parts: Node | None) -> int:
        depth = 1 + max((p.depth for p in parts if p is not None), default=0)
        if depth > MAX_DEPTH:
            self._fail(at, f"Syntax error: expression recursion limit exceeded: {MAX_DEPTH}")
        return depth

    def _expression(self) -> Node:
        self._level += 1
        if self._level > MAX_DEPTH:
            self._fail(self._tokens[self._next][2], f"Syntax error: expression recursion limit exceeded: {MAX_DEPTH}")
        node = self._logic("||")
        if self._peek() == "?":
            at = self._take()[2]
            yes = self._logic("||")
            self._expect(":")
            no = self._expression()
            node = Call(at, self._deep(at, node, yes, no), "_?_:_", None, [node, yes, no])
        self._level -= 1
        return node

    def _logic(self, word: str) -> Node:
        first = self._logic("&&") if word == "||" else self._binary(3)
        if self._peek() != word:
            return first
        at, args = self._tokens[self._next][2], [first]
        while self._accept(word):
            args.append(self._logic("&&") if word == "||" else self._binary(3))
        return Logic(at, self._deep(at, *args), word == "&&", args)

    def _binary(self, least: int) -> Node:
        left = self._unary()
        while (power := _BINARY.get(self._peek(), 0)) >= least:
            _, text, at = self._take()
            right = self._binary(power + 1)
            name = "@in" if text == "in" else f"_{text}_"
            left = Call(at, self._deep(at, left, right), name, None, [left, right])
        return left

    def _unary(self) -> Node:
        word = self._peek()
        if word not in {"!", "-"}:
            return self._member()
        at = self._take()[2]
        if word == "-" and self._kind() == "number":
            return self._member(negative=True)
        times = 1
        while self._accept(word):
            times += 1
        operand = self._member()
        if times % 2 == 0:
            return operand
        return Call(at, self._deep(at, operand), f"{word}_", None, [operand])

    def _member(self, *, negative: bool = False) -> Node:
        node = self._primary(negative=negative)
        while True:
            word = self._peek()
            if word in {".", ".?"}:
                at = self._take()[2]
                kind, name, _ = self._take()
                if kind != "name":
                    self._next -= 1
                    self._unexpected("IDENTIFIER")
                if word == "." and self._peek() == "(":
                    node = self._call(name, node)
                else:
                    node = Select(at, self._deep(at, node), node, name, optional=word == ".?")
            elif word in {"[", "[?"}:
                at = self._take()[2]
                index = self._expression()
                self._expect("]")
                node = Call(at, self._deep(at, node, index), "_[_]" if word == "[" else "_[?_]", None, [node, index])
            else:
                return node

    def _call(self, name: str, target: Node | None) -> Node:
        at = self._take()[2]
        args: list[Node] = []
        while self._peek() != ")":
            args.append(self._expression())
            if not self._accept(","):
                break
        self._expect(")")
        if target is None and name == "has" and len(args) == 1:
            tested = args[0]
            if not isinstance(tested, Select):
                self._fail(tested.at, "invalid argument to has() macro")
            tested.test = True
            return tested
        if target is not None and name in _FOLDS and len(args) in ({2, 3} if name == "map" else {2}):
            return self._fold(name, target, args, at)
        return Call(at, self._deep(at, target, *args), name, target, args)

    def _fold(self, name: str, target: Node, args: list[Node], at: int) -> Node:
        variable = args[0]
        if not isinstance(variable, Ident):
            self._fail(variable.at, "argument must be a simple name")
        depth = self._deep(at, target, *args) + 1
        kind = "exists_one" if name == "existsOne" else name
        if name == "map":
            condition, result = (args[1], args[2]) if len(args) == 3 else (None, args[1])
            return Fold(at, depth, kind, target, variable.name, condition, result)
        if name in {"optMap", "optFlatMap"}:
            return Fold(at, depth, kind, target, variable.name, None, args[1])
        return Fold(at, depth, kind, target, variable.name, args[1], None)

    def _primary(self, *, negative: bool = False) -> Node:
        kind, text, at = self._take()
        if kind == "number":
            return self._number(text, at, negative=negative)
        if kind == "string":
            return Literal(at, 1, self._string(text, at))
        if kind == "name":
            if text in {"true", "false", "null"}:
                return Literal(at, 1, {"true": True, "false": False, "null": None}[text])
            if self._peek() == "(":
                return self._call(text, None)
            if text in RESERVED:
                self._fail(at, f"reserved identifier: {text}")
            return Ident(at, 1, text)
        if text == "." and self._kind() == "name":
            return self._primary()
        if text == "(":
            inner = self._expression()
            self._expect(")")
            return inner
        if text in {"[", "[?"}:
            return self._sequence(at, optional=text == "[?")
        if text == "{":
            return self._mapping(at)
        return self._nothing()

    def _nothing(self) -> NoReturn:
        self._next -= 1
        self._unexpected(
            "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, STRING, IDENTIFIER}"
        )

    def _sequence(self, at: int, *, optional: bool) -> Node:
        items: list[Node] = []
        marked: set[int] = set()
        while self._peek() != "]":
            if optional or self._accept("?"):
                marked.add(len(items))
                optional = False
            items.append(self._expression())
            if not self._accept(","):
                break
        self._expect("]")
        return Sequence(at, self._deep(at, *items), items, marked)

    def _mapping(self, at: int) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        while self._peek() != "}":
            optional = self._accept("?")
            key = self._expression()
            self._expect(":")
            entries.append((key, self._expression(), optional))
            if not self._accept(","):
                break
        self._expect("}")
        return Mapping(at, self._deep(at, *(n for e in entries for n in e[:2])), entries)

    def _number(self, text: str, at: int, *, negative: bool) -> Node:
        unsigned = text[-1] in "uU"
        digits = text.rstrip("uU")
        value: int | float
        if "." in digits or ("e" in digits.lower() and not digits.lower().startswith("0x")):
            value = -float(digits) if negative else float(digits)
            return Literal(at, 1, value)
        if len(digits) > 40:
            self._fail(at, "invalid int literal")
        value = int(digits, 16) if digits.lower().startswith("0x") else int(digits)
        if unsigned:
            if negative or value > 2 * INT_MAX + 1:
                self._fail(at, "invalid uint literal")
            return Literal(at, 1, UInt(value))
        value = -value if negative else value
        if not -INT_MAX - 1 <= value <= INT_MAX:
            self._fail(at, "invalid int literal")
        return Literal(at, 1, value)

    def _string(self, text: str, at: int) -> str | bytes:
        prefix = re.match("[a-zA-Z]*", text).group().lower()  # type: ignore[union-attr]
        quoted = text[len(prefix) :]
        body = quoted[3:] if quoted.startswith(('"""', "'''")) else quoted[1:]
        is_bytes = "b" in prefix
        if "r" not in prefix:
            body = self._unescape(body, at, is_bytes=is_bytes)
        elif is_bytes:
            return body.encode()
        if not is_bytes:
            return body
        return b"".join(bytes([ord(c) - 0xF0000]) if ord(c) >= 0xF0000 else c.encode() for c in body)

    def _unescape(self, text: str, at: int, *, is_bytes: bool) -> str:
        out, i = [], 0
        while i < len(text):
            if text[i] != "\\":
                out.append(text[i])
                i += 1
                continue
            letter = text[i + 1 : i + 2]
            if letter in _ESCAPES and letter:
                out.append(_ESCAPES[letter])
                i += 2
                continue
            width = {"x": 2, "X": 2, "u": 4, "U": 8}.get(letter)
            digits, base = (text[i + 2 : i + 2 + width], 16) if width else (text[i + 1 : i + 4], 8)
            try:
                code = int(digits, base)
                # A byte that an escape names is kept apart from text until the whole literal is encoded.
                raw = is_bytes and width in {2, None}
                if len(digits) != (width or 3) or (raw and code > 0xFF):
                    raise ValueError(digits)  # noqa: TRY301 - one message for all
                out.append(chr(code + 0xF0000) if raw else chr(code))
            except (ValueError, OverflowError):
                self._fail(at, f"Syntax error: invalid escape sequence: \\{letter}")
            i += 2 + width if width else 4
        return "".join(out)
