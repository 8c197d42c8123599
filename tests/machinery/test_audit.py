"""The audit log: what is kept, in what order, and what a crash leaves."""

from __future__ import annotations

import pytest

from headrace.machinery import audit
from headrace.machinery.audit import AuditLog
from headrace.machinery.clock import SystemClock


@pytest.fixture
def log(tmp_path):
    made = AuditLog(tmp_path / "logs", SystemClock())
    yield made
    made.close()


def test_the_newest_first_and_by_user(log):
    for number in range(5):
        log.record("ada" if number % 2 else "bob", "POST", f"/{number}", outcome=200)
    assert [e.target for e in log.recent(3)] == ["/4", "/3", "/2"]
    assert [e.target for e in log.recent(10, user="ada")] == ["/3", "/1"]


def test_it_is_private_and_goes_on_after_a_restart(log, tmp_path):
    log.record("ada", "login", "session")
    path = tmp_path / "logs" / "audit.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    log.close()
    with path.open("ab") as file:
        file.write(b'{"time":"2026-01-01T00:00')  # a crash cut this line off
        file.write(b"\n")
    again = AuditLog(tmp_path / "logs", SystemClock())
    again.record("bob", "login", "session")
    assert [e.user for e in again.recent(10)] == ["bob", "ada"]
    again.close()


def test_old_files_go(log, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "MAX_BYTES", 400)
    for number in range(40):
        log.record("ada", "POST", f"/{number}")
    names = sorted(p.name for p in (tmp_path / "logs").iterdir())
    assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"]
    targets = [e.target for e in log.recent(100)]
    assert targets[0] == "/39"
    assert targets == [f"/{n}" for n in range(39, 39 - len(targets), -1)], "in order across files"


def test_a_disk_that_is_full_fails_no_request(tmp_path, caplog):
    (tmp_path / "logs").write_text("a file where the folder should be")
    AuditLog(tmp_path / "logs", SystemClock()).record("ada", "POST", "/x")
    assert "cannot be written" in caplog.text


def test_who_listens_hears_of_each_entry_until_the_end(log):
    heard = []
    end = log.subscribe(heard.append)
    log.record("ada", "login", "session")
    end()
    log.record("bob", "login", "session")
    assert [entry.user for entry in heard] == ["ada"]
