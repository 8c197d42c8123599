"""The authority: made once, renewed in time, readable by its owner alone."""

import datetime as dt
import stat

import pytest
import yaml
from cryptography import x509

from headrace.api.identity import MASTERS
from headrace.apiserver.pki.authority import LEAF_LIFETIME, ensure, kubernetes_service_ip
from headrace.apiserver.pki.kubeconfig import (
    KubeconfigUnreadable,
    kubeconfig,
    merge_kubeconfig,
    write_kubeconfig,
)
from headrace.machinery.settings import Ports, Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(tmp_path / ".headrace", ports=Ports(api=16443))


def _load(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_made_once_and_private(settings):
    pki = ensure(settings)
    before = {p.name: p.read_bytes() for p in pki.folder.iterdir()}
    assert {stat.S_IMODE(p.stat().st_mode) for p in pki.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700
    ensure(settings)
    assert {p.name: p.read_bytes() for p in pki.folder.iterdir()} == before


def test_server_certificate_names_every_way_to_reach_it(settings):
    names = _load(ensure(settings).server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc.cluster.local"} <= set(
        names.get_values_for_type(x509.DNSName)
    )
    assert {"127.0.0.1", "10.199.0.1", "10.199.128.1"} <= {str(i) for i in names.get_values_for_type(x509.IPAddress)}
    assert kubernetes_service_ip(settings) == "10.199.128.1"


def test_administrator_is_of_the_masters(settings):
    subject = _load(ensure(settings).admin).subject
    assert subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)[0].value == MASTERS
    assert subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "kubernetes-admin"


def test_leaves_are_renewed_before_they_end_and_the_signing_key_stays(settings):
    pki = ensure(settings)
    first, authority, key = _load(pki.server), pki.ca.read_bytes(), pki.service_account_key.read_bytes()
    soon = dt.datetime.now(dt.UTC) + LEAF_LIFETIME - dt.timedelta(days=20)
    ensure(settings, soon)
    renewed = _load(pki.server)
    assert renewed.serial_number != first.serial_number
    assert renewed.not_valid_after_utc > soon + dt.timedelta(days=300)
    assert (pki.ca.read_bytes(), pki.service_account_key.read_bytes()) == (authority, key)


@pytest.mark.parametrize("damage", ["apiserver.crt", "apiserver.key", "admin.key", "ca.crt"])
def test_a_damaged_file_is_replaced(settings, damage):
    pki = ensure(settings)
    if damage == "apiserver.key":
        (pki.folder / damage).write_bytes(pki.admin_key.read_bytes())  # a key that does not fit
    else:
        (pki.folder / damage).unlink()
    ensure(settings)
    _load(pki.server).verify_directly_issued_by(_load(pki.ca))
    _load(pki.admin).verify_directly_issued_by(_load(pki.ca))
    assert pki.server_key.read_bytes() != pki.admin_key.read_bytes()


def test_a_new_address_makes_a_new_certificate(settings, tmp_path):
    ensure(settings)
    moved = Settings(settings.home, host="127.0.0.9")
    names = _load(ensure(moved).server).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.9" in {str(i) for i in names.get_values_for_type(x509.IPAddress)}


def test_kubeconfig_is_private_and_named_after_its_home(settings, tmp_path):
    path = write_kubeconfig(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = yaml.safe_load(path.read_text())
    assert written["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:16443"
    assert written["current-context"] == "headrace"
    assert Settings(tmp_path / "second").context == "headrace-second"


def test_what_people_set_in_our_file_stays(settings):
    """`kubectl config set-context --current --namespace` writes into it; the next `up` must not undo that."""
    path = write_kubeconfig(settings)
    changed = yaml.safe_load(path.read_text())
    changed["contexts"][0]["context"]["namespace"] = "team"
    changed["contexts"].append({"name": "mine", "context": {"cluster": "headrace", "user": "me"}})
    changed["users"].append({"name": "me", "user": {"token": "t"}})
    changed["users"][0]["user"] = {"token": "stale"}
    changed["current-context"] = "mine"
    path.write_text(yaml.safe_dump(changed, sort_keys=False))
    write_kubeconfig(settings)
    written = yaml.safe_load(path.read_text())
    contexts = {c["name"]: c["context"] for c in written["contexts"]}
    fresh = kubeconfig(settings)
    assert contexts["headrace"] == {**fresh["contexts"][0]["context"], "namespace": "team"}
    assert contexts["mine"]["user"] == "me"
    assert written["current-context"] == "headrace", "our own commands read this file too"
    assert fresh["users"][0] in written["users"]
    before = path.stat().st_ino
    write_kubeconfig(settings)
    assert path.stat().st_ino == before, "it was written although nothing changed"


@pytest.mark.parametrize("content", ["", "{broken", "just text", "clusters: 5"])
def test_our_damaged_file_is_replaced(settings, content):
    settings.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    settings.kubeconfig.write_text(content)
    assert yaml.safe_load(write_kubeconfig(settings).read_text()) == kubeconfig(settings)


def test_merging_keeps_everything_else(settings, tmp_path):
    target = tmp_path / "kube" / "config"
    target.parent.mkdir()
    theirs = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "work", "cluster": {"server": "https://work"}}, {"name": "headrace", "cluster": {}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
        "current-context": "work",
        "extensions": [{"name": "x"}],
    }
    target.write_text(yaml.safe_dump(theirs))
    backup = merge_kubeconfig(settings, target, switch=False)
    merged = yaml.safe_load(target.read_text())
    assert merged["current-context"] == "work"
    assert merged["extensions"] == theirs["extensions"]
    assert [c["name"] for c in merged["clusters"]] == ["work", "headrace"]
    assert merged["clusters"][1] == kubeconfig(settings)["clusters"][0]
    assert yaml.safe_load(backup.read_text()) == theirs
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    merge_kubeconfig(settings, target)
    assert yaml.safe_load(target.read_text())["current-context"] == "headrace"


def test_merging_into_nothing_writes_the_whole_file(settings, tmp_path):
    target = tmp_path / "kube" / "config"
    assert merge_kubeconfig(settings, target) is None
    assert yaml.safe_load(target.read_text()) == kubeconfig(settings)


@pytest.mark.parametrize("content", ["{broken", "just text", "clusters: 5"])
def test_what_is_not_a_kubeconfig_is_left_alone(settings, tmp_path, content):
    target = tmp_path / "config"
    target.write_text(content)
    with pytest.raises(KubeconfigUnreadable, match="mend it"):
        merge_kubeconfig(settings, target)
    assert target.read_text() == content
