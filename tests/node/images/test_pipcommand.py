"""Which commands install packages, and which ones."""

from __future__ import annotations

import pytest

from headrace.node.images.pipcommand import NotUnderstood, is_path, read_file, recognise


@pytest.mark.parametrize(
    ("command", "packages"),
    [
        ("pip install six", ["six"]),
        ("pip3 install --no-cache-dir -U 'six<2' pandas==2.0", ["six<2", "pandas==2.0"]),
        ("python -m pip install six", ["six"]),
        ("/usr/local/bin/python3.11 -m pip install six", ["six"]),
        ("uv pip install --system six", ["six"]),
        ("PIP_NO_CACHE_DIR=1 pip install six && pip install attrs && rm -rf ~/.cache/pip", ["six", "attrs"]),
        ('pip install "foo[bar]>=1,<2"', ["foo[bar]>=1,<2"]),
        ("pip install .", ["."]),
        ("pip install -e ./lib", ["./lib"]),
    ],
)
def test_packages(command, packages):
    found = recognise(command)
    assert found is not None
    assert found.packages == packages


def test_options_and_files():
    found = recognise("pip install --no-deps six --index-url https://i/s --pre -r a.txt --requirement=b.txt -f ./w")
    assert found is not None
    assert found.without_deps == ["six"]
    assert found.files == ["a.txt", "b.txt"]
    assert found.options == ["--index-url https://i/s", "--pre", "--find-links ./w"]


@pytest.mark.parametrize(
    "command", ["echo pip install six", "make install", "pip --version", "pip install six && make"]
)
def test_other_commands(command):
    assert recognise(command) is None


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("pip install --target /x six", "--target"),
        ("pip install six || true", "for a shell"),
        ("pip install $(cat x)", "for a shell"),
        ("pip install six -c c.txt", "constraints"),
        ("pip install 'six", "closing quotation"),
        ("pip install -r", "needs a value"),
    ],
)
def test_what_cannot_be_followed(command, sentence):
    with pytest.raises(NotUnderstood) as caught:
        recognise(command)
    assert sentence.lower() in str(caught.value).lower()


def test_requirements_files():
    text = "six==1 # why\n\n# no\n-r more.txt\n--extra-index-url https://e\n-e ./lib\nattrs==2 \\\n  --hash=sha256:00\n"
    assert read_file(text) == (["six==1", "./lib", "attrs==2"], ["--extra-index-url https://e"], ["more.txt"])
    with pytest.raises(NotUnderstood, match="no-binary"):
        read_file("--no-binary :all:\n")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", True),
        ("./x[extra]", True),
        ("/a/b.whl", True),
        ("lib/x", True),
        ("six", False),
        ("six[a]", False),
        ("git+https://h/x", False),
        ("six @ file:///x", False),
    ],
)
def test_paths(text, path):
    assert is_path(text) is path
