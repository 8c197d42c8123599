"""Why a task failed, from what is known of it; Markdown of strangers."""

from __future__ import annotations

import pytest
import yaml

from headrace.api import _wire
from headrace.api.core import Event, Pod
from headrace.components.pipelines.store.models import RuntimeState, TaskRow, TaskType
from headrace.components.pipelines.ui import markdown, specs, why

LOG = """2026-01-02T03:04:05.000000001Z reading
2026-01-02T03:04:05.100000001Z Traceback (most recent call last):
2026-01-02T03:04:05.200000001Z   File "x.py", line 3, in <module>
2026-01-02T03:04:05.300000001Z my.shop.StockError: none left
2026-01-02T03:04:05.400000001Z bye
"""


def failed(message: str = "", code: int | None = None) -> TaskRow:
    report = {"exit_code": code} if code is not None else None
    state = RuntimeState.FAILED
    return TaskRow("t", "r", "root/t", "t", TaskType.RUNTIME, state=state, error_message=message, report=report)


def warning(reason: str, message: str) -> Event:
    body = {"metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": message, "type": "Warning"}
    return _wire.convert(Event, body)


def test_the_log_says_what_was_raised():
    found = why.of(failed("The step failed."), None, [], LOG)
    assert (found.message, found.raised) == ("The step failed.", "my.shop.StockError: none left")
    assert found.lines[-2:] == ("my.shop.StockError: none left", "bye")
    assert why.of(failed("my.shop.StockError: none left (exit 1)"), None, [], LOG).raised == ""
    assert why.of(failed(), None, [], "all went well\n").raised == ""


@pytest.mark.parametrize(("code", "words"), [(137, "it was killed"), (127, "not found"), (3, "exit code 3")])
def test_exit_codes_in_words(code, words):
    assert words in why.of(failed(code=code), None, [], "").ended


def test_a_pod_knows_more_than_its_exit_code():
    ended = {"exitCode": 137, "reason": "OOMKilled"}
    container = {"name": "main", "image": "i", "imageID": "i", "state": {"terminated": ended}}
    status = {"phase": "Failed", "containerStatuses": [container]}
    pod = _wire.convert(Pod, {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": status})
    assert "more memory than its limit" in why.of(failed(code=137), pod, [], "").ended


def test_warnings_once_each_the_newest_last():
    found = why.of(failed(), None, [warning("A", "1"), warning("B", "2"), warning("A", "1")], "")
    assert found.events == (("B", "2"), ("A", "1"))
    many = why.of(failed(), None, [warning("R", str(i)) for i in range(9)], "\n".join(str(i) for i in range(99)))
    assert len(many.events) == why.EVENTS
    assert many.lines == tuple(str(i) for i in range(99 - why.LINES, 99))


@pytest.mark.parametrize(
    ("text", "there", "absent"),
    [
        ("# Title\n\n*very* good", "<em>very</em>", "#"),
        ("<script>alert(1)</script> <b onclick=x>b</b>", "&lt;script&gt;", "<script"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))", "href"),
        ("[x](https://example.com)", 'rel="noopener noreferrer nofollow"', "javascript"),
        ("![p](https://example.com/p.png)", 'href="https://example.com/p.png"', "<img"),
        ("|a|\n|-:|\n|1|", "<td>1</td>", "style"),
    ],
)
def test_markdown_of_strangers(text, there, absent):
    found = markdown.render(text)
    assert there in found
    assert absent not in found


def test_frames_of_the_sdk_are_left_out_of_tracebacks():
    log = """}
}
reading
Traceback (most recent call last):
  File "/env/lib/python3.11/site-packages/kfp/dsl/executor_main.py", line 109, in <module>
    executor_main()
  File "/env/lib/python3.11/site-packages/kfp/dsl/executor.py", line 453, in execute
    result = self.func(**func_kwargs)
             ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/tmp/ephemeral_component.py", line 12, in measure
    raise ValueError("too few rows")
ValueError: too few rows
"""
    found = why.of(failed(), None, [], log)
    assert found.lines == (
        "}",
        "reading",
        "Traceback (most recent call last):",
        '  File "/tmp/ephemeral_component.py", line 12, in measure',
        '    raise ValueError("too few rows")',
        "ValueError: too few rows",
    )


def test_programs_in_documents_are_lines():
    program = "def f():\n    return 1\n"
    text = "\n".join(specs.lines_of({"args": [program], "odd": "ends \nwith a space", "count": 3}))
    assert "- |" in text
    assert "    return 1" in text
    assert yaml.safe_load(text) == {"args": [program], "odd": "ends \nwith a space", "count": 3}
