"""YAML of strangers."""

import pytest

from headrace.api import _yaml


def test_documents_as_json_sees_them():
    found = _yaml.documents(b"day: 2020-01-01\non: yes\n---\n---\n- 1\n- 2.5\n")
    assert found == [{"day": "2020-01-01", True: True}, None, [1, 2.5]]
    assert _yaml.documents(b"") == []


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b"{a: ", b"}"), (b"- ", b"")])
def test_depth_has_an_end(opening, closing):
    depth = _yaml.MAX_DEPTH - 10
    assert _yaml.documents(opening * depth + b"x" + closing * depth)
    for deep in (_yaml.MAX_DEPTH + 1, 1_000_000):  # libyaml's composer would end this process at the second
        with pytest.raises(_yaml.TooDeep, match="nested"):
            _yaml.documents(opening * deep + b"x" + closing * deep)


def test_objects_of_python_are_not_made():
    with pytest.raises(_yaml.YAMLError):
        _yaml.documents(b"!!python/object/apply:os.system [ls]")
