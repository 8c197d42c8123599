"""The annotation that adds packages."""

from __future__ import annotations

import pytest

from headrace.node.images.requirements import BadRequirements, Requirements, canonical, parse


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("", Requirements()),
        ("[]", Requirements()),
        ('["b", "a==1"]', Requirements(("a==1", "b"))),
        ('["kfp==2.16.1 --no-deps", "x"]', Requirements(("x",), ("kfp==2.16.1",))),
        ('["--index-url https://i/simple", "x"]', Requirements(("x",), (), ("--index-url", "https://i/simple"))),
        ('["--trusted-host=i", "x"]', Requirements(("x",), (), ("--allow-insecure-host", "i"))),
        ('["--pre", "x"]', Requirements(("x",), (), ("--prerelease=allow",))),
        ("[\"x[extra] >= 1 ; python_version < '4'\"]", Requirements(("x[extra] >= 1 ; python_version < '4'",))),
        ('["x @ git+https://host/x.git@v1"]', Requirements(("x @ git+https://host/x.git@v1",))),
    ],
)
def test_parse(annotation: str, expected: Requirements) -> None:
    assert parse(annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ("scikit-learn", "not JSON"),
        ('{"a": 1}', "list of strings"),
        ("[1]", "list of strings"),
        ('["-r file.txt"]', "-r is not supported"),
        ('["--editable ."]', "--editable is not supported"),
        ('["x --hash=sha256:1"]', "holds an option"),
    ],
)
def test_refuses(annotation: str, says: str) -> None:
    with pytest.raises(BadRequirements, match=says):
        parse(annotation)


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("Scikit_Learn==1.7.2", "scikit-learn"),
        ("a.b[x]>=1", "a-b"),
        ("x @ https://h/x.whl", "x"),
        ("zope.interface", "zope-interface"),
    ],
)
def test_canonical(requirement: str, name: str) -> None:
    assert canonical(requirement) == name


def test_the_pod_overrides_the_image() -> None:
    asked = parse('["scikit-learn==1.6.0", "kfp==2.16.1 --no-deps"]')
    assert asked.plus(("Scikit_Learn==1.7.2", "joblib", "kfp")) == Requirements(
        ("joblib", "scikit-learn==1.6.0"), ("kfp==2.16.1",)
    )
