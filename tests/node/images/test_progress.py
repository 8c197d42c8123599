"""What a build says of itself, from lines that uv prints."""

from __future__ import annotations

import pytest

from headrace.node.images.progress import Progress, listed
from headrace.node.images.uv import failure

DOWNLOADS = [
    "Using Python 3.11.2 environment at: v",
    "Resolved 7 packages in 107ms",
    "Downloading scipy (33.7MiB)",
    "Downloading numpy (16.1MiB)",
    "   Building own-tools==1.0",
    " Downloaded numpy",
    "Downloading pandas (12.0MiB)",
]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "installing a, b"),
        (DOWNLOADS[:2], "installing a, b"),
        (DOWNLOADS[:4], "installing a, b: downloading scipy (33.7 MiB), downloading numpy (16.1 MiB)"),
        (
            DOWNLOADS,
            "installing a, b: downloading scipy (33.7 MiB), building own-tools==1.0, downloading pandas (12.0 MiB)",
        ),
        (
            [f"Downloading {name} (2MiB)" for name in "cdefg"],
            "installing a, b: downloading c (2 MiB), downloading d (2 MiB), downloading e (2 MiB), 2 more",
        ),
        ([*DOWNLOADS, "Prepared 7 packages in 2s", "Installed 7 packages in 99ms", " + scipy==1.2"], "installing a, b"),
        (["   Building mine @ https://me:secret@example.com/mine.tar.gz"], "installing a, b: building mine"),
        (["Building mine @ file:///x", "      Built mine @ file:///x"], "installing a, b"),
    ],
)
def test_what_goes_on(lines, sentence):
    progress = Progress("installing a, b")
    for line in lines:
        progress.hear(line)
    assert progress.sentence == sentence


def test_many_names_are_counted():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_a_failure_is_told_without_what_went_well_before_it():
    said = "\n".join([*DOWNLOADS, "error: Failed to fetch: scipy", "  Caused by: connection refused"])
    assert str(failure(said)) == "Failed to fetch: scipy: connection refused"
