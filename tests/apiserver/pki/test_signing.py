"""Signing keys: one signs for a year, those before it verify."""

import datetime as dt
import stat

import pytest

from headrace.apiserver.pki.signing import LIFETIME, ensure_signing_key, key_id, load, load_own, retired


def test_a_key_signs_for_a_year(tmp_path):
    path, now = tmp_path / "sa.key", dt.datetime.now(dt.UTC)
    assert ensure_signing_key(path, now)
    first, own = load(path), load_own(path)
    assert not ensure_signing_key(path, now + LIFETIME - dt.timedelta(days=1))
    assert key_id(load(path).public_key()) == key_id(first.public_key())
    assert retired(path) == []
    assert ensure_signing_key(path, now + LIFETIME + dt.timedelta(days=1))
    assert key_id(load(path).public_key()) != key_id(first.public_key())
    assert key_id(load_own(path).public_key()) != key_id(own.public_key())
    assert {key_id(old) for old in retired(path)} == {key_id(first.public_key()), key_id(own.public_key())}
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}


def test_what_is_no_key_is_named(tmp_path):
    path = tmp_path / "sa.key"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="PEM"):
        load(path)


def test_a_home_without_a_key_of_its_own_gets_one_that_stays(tmp_path):
    path, now = tmp_path / "sa.key", dt.datetime.now(dt.UTC)
    ensure_signing_key(path, now)
    (tmp_path / "sa-own.key").unlink()  # as an earlier release left it
    made = key_id(load_own(path).public_key())
    assert key_id(load_own(path).public_key()) == made
    assert not ensure_signing_key(path, now)
    assert retired(path) == []
    (tmp_path / "sa-own.key").write_bytes(path.read_bytes())
    with pytest.raises(TypeError, match="not an elliptic-curve key"):
        load_own(path)
