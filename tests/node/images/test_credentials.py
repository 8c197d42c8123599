"""What pods' secrets say to registries."""

from __future__ import annotations

import base64
import json

import pytest

from headrace.api.core import Pod, PodSpec, Secret
from headrace.node.images.credentials import CONFIG, OLD_CONFIG, logins

LOGIN = {"auth": base64.b64encode(b"me:secret").decode()}


def coded(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


SECRETS = {
    "new": Secret(data={CONFIG: coded({"auths": {"example.com": LOGIN}})}),
    "pair": Secret(data={CONFIG: coded({"auths": {"other.org": {"username": "me", "password": "secret"}}})}),
    "old": Secret(data={OLD_CONFIG: coded({"example.com": {"auth": "b2xk", "email": "e"}})}),
    "opaque": Secret(data={"password": "eA=="}),
    "broken": Secret(data={CONFIG: "no base64"}),
    "list": Secret(data={CONFIG: coded(["a"])}),
}


@pytest.mark.parametrize(
    ("named", "auths", "useless"),
    [
        ([], {}, []),
        (["new"], {"example.com": LOGIN}, []),
        (["pair"], {"other.org": LOGIN}, []),
        (["old"], {"example.com": {"auth": "b2xk"}}, []),
        (["new", "old", "pair"], {"example.com": LOGIN, "other.org": LOGIN}, []),
        (["gone", "opaque", "broken", "list", "new"], {"example.com": LOGIN}, ["gone", "opaque", "broken", "list"]),
        (["gone"], {}, ["gone"]),
    ],
)
def test_the_file_of_logins(named, auths, useless):
    pod = Pod(spec=PodSpec(image_pull_secrets=[{"name": name} for name in named]))
    file, problems = logins(pod, SECRETS.get)
    assert (json.loads(file or b'{"auths": {}}'), problems) == ({"auths": auths}, useless)
    assert bool(file) is bool(auths)
