"""Who reaches what, and what preconditions and ranges mean: tables, the denial beside the permission."""

import base64
import datetime as dt

import pytest

from headrace.api.core import Secret
from headrace.api.meta import ObjectMeta
from headrace.components.objectstore import policy
from headrace.components.objectstore.policy import Action
from headrace.components.objectstore.types import NotModified, ObjectRecord, Preconditions, Principal, S3Error

TEAM = Principal("k", "s", "team-a")


@pytest.mark.parametrize(
    ("action", "bucket", "key", "expected"),
    [
        (Action.READ, "mlpipeline", "private-artifacts/team-a/run/model", True),
        (Action.READ, "mlpipeline", "artifacts/team-a/x", True),
        (Action.READ, "mlpipeline", "v2/artifacts/team-a/x", True),
        (Action.WRITE, "mlpipeline", "private-artifacts/team-a/x", True),
        (Action.LIST, "mlpipeline", "private-artifacts/team-a/", True),
        (Action.LIST, "mlpipeline", "private-artifacts/team-a/run", True),
        (Action.SEE_BUCKET, "mlpipeline", "", True),
        (Action.READ, "mlpipeline", "private-artifacts/team-b/x", False),
        (Action.READ, "mlpipeline", "private-artifacts/team-ab/x", False),
        (Action.READ, "mlpipeline", "private-artifacts/team-a", False),
        (Action.READ, "mlpipeline", "/private-artifacts/team-a/x", False),
        (Action.READ, "mlpipeline", "x/private-artifacts/team-a/x", False),
        (Action.WRITE, "mlpipeline", "pipelines/x", False),
        (Action.WRITE, "other", "private-artifacts/team-a/x", False),
        (Action.LIST, "mlpipeline", "", False),
        (Action.LIST, "mlpipeline", "private-artifacts/team-a", False),
        (Action.LIST, "other", "private-artifacts/team-a/", False),
        (Action.SEE_BUCKET, "other", "", False),
        (Action.LIST_BUCKETS, "", "", False),
        (Action.MANAGE_BUCKET, "mlpipeline", "", False),
        (Action.MANAGE_BUCKET, "team-a", "", False),
    ],
)
def test_a_profile_reaches_its_own_prefixes_only(action, bucket, key, expected):
    assert policy.allowed(TEAM, action, bucket, key) is expected


@pytest.mark.parametrize("action", list(Action))
def test_the_administrator_reaches_everything(action):
    assert policy.allowed(policy.ADMINISTRATOR, action, "any", "key")


def secret(namespace="team-a", *, access="k", name=policy.SECRET_NAME, label="true", age=0, **data):
    encoded = {"accesskey": access, "secretkey": "s"} | data
    return Secret(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            labels={policy.ACCESS_LABEL: label} if label else {},
            creation_timestamp=dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(days=age),
        ),
        data={k: base64.b64encode(v.encode()).decode() for k, v in encoded.items()},
    )


def test_a_labelled_secret_is_a_key_pair_of_its_namespace():
    assert policy.principals([secret()])["k"] == Principal("k", "s", "team-a")


@pytest.mark.parametrize(
    "bad",
    [
        secret(label=""),
        secret(label="yes"),
        secret(name="other"),
        secret("kubeflow"),
        secret(access=""),
        secret(secretkey=""),
        Secret(metadata=secret().metadata, data={"accesskey": "!", "secretkey": "!"}),
        Secret(metadata=secret().metadata, data={"accesskey": "aw=="}),
    ],
)
def test_other_secrets_are_not(bad):
    assert set(policy.principals([bad])) == {"minio"}


def test_nobody_takes_over_anothers_access_key():
    found = policy.principals([secret("thief", age=2), secret("owner", age=1), secret("root-thief", access="minio")])
    assert found["k"].namespace == "owner"
    assert found["minio"] is policy.ADMINISTRATOR


def test_secrets_do_not_show_in_logs():
    assert "minio123" not in repr(policy.ADMINISTRATOR)


@pytest.mark.parametrize("name", ["mlpipeline", "a.b-c", "abc", "0" * 63])
def test_bucket_names(name):
    policy.check_bucket_name(name)


@pytest.mark.parametrize(
    "name", ["ab", "A" * 4, "-abc", "abc-", "a..b", "1.2.3.4", "a/b", "..", "minio", "0" * 64, "é" * 5]
)
def test_names_that_are_none(name):
    with pytest.raises(S3Error, match="InvalidBucketName"):
        policy.check_bucket_name(name)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-9", 100, (0, 10)),
        ("bytes=90-", 100, (90, 10)),
        ("bytes=-5", 100, (95, 5)),
        ("bytes=-500", 100, (0, 100)),
        ("bytes=50-500", 100, (50, 50)),
        ("bytes=5-1", 100, None),
        ("bytes=0-1,5-6", 100, None),
        ("items=0-1", 100, None),
        ("bytes=-", 100, None),
    ],
)
def test_ranges(header, size, expected):
    assert policy.byte_range(header, size) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-1", 0)])
def test_ranges_that_nothing_satisfies(header, size):
    with pytest.raises(S3Error, match="InvalidRange"):
        policy.byte_range(header, size)


NOW = dt.datetime(2026, 1, 1, 12, 0, 0, 500_000, tzinfo=dt.UTC)
OLD, NEW = NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=1)
RECORD = ObjectRecord("b", "k", 1, "abc", NOW)


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        (Preconditions(), None),
        (Preconditions(if_match='"abc"'), None),
        (Preconditions(if_match="*"), None),
        (Preconditions(if_match='"x", "abc"'), None),
        (Preconditions(if_match='"x"'), S3Error),
        (Preconditions(if_none_match='"abc"'), NotModified),
        (Preconditions(if_none_match="*"), NotModified),
        (Preconditions(if_none_match='"x"'), None),
        (Preconditions(if_modified_since=OLD), None),
        (Preconditions(if_modified_since=NEW), NotModified),
        (Preconditions(if_modified_since=NOW.replace(microsecond=0)), NotModified),
        (Preconditions(if_unmodified_since=NEW), None),
        (Preconditions(if_unmodified_since=NOW.replace(microsecond=0)), None),
        (Preconditions(if_unmodified_since=OLD), S3Error),
        (Preconditions(if_match='"abc"', if_unmodified_since=OLD), None),
        (Preconditions(if_none_match='"x"', if_modified_since=NEW), None),
    ],
)
def test_conditional_reads(conditions, outcome):
    if outcome is None:
        policy.check_read(RECORD, conditions)
    else:
        with pytest.raises(outcome):
            policy.check_read(RECORD, conditions)


@pytest.mark.parametrize(
    ("current", "conditions", "code"),
    [
        (None, Preconditions(), None),
        (None, Preconditions(if_none_match="*"), None),
        (RECORD, Preconditions(if_none_match="*"), "PreconditionFailed"),
        (RECORD, Preconditions(if_match='"abc"'), None),
        (RECORD, Preconditions(if_match='"x"'), "PreconditionFailed"),
        (None, Preconditions(if_match='"x"'), "NoSuchKey"),
    ],
)
def test_conditional_writes(current, conditions, code):
    if code is None:
        policy.check_write(current, conditions)
    else:
        with pytest.raises(S3Error, match=code):
            policy.check_write(current, conditions)
