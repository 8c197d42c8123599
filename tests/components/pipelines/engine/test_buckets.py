"""What lies in the object store, by the API and by its page, from a real object store."""

from __future__ import annotations

import base64
import datetime as dt

import pytest
from pipelines_harness import HOME, OTHER, USERS

from headrace.components.pipelines.ui.artifacts import ArtifactsPage
from headrace.components.pipelines.ui.calls import Calls
from headrace.machinery.pages import Form, PageError, PageRequest, Upload

FOLDER = f"v2/artifacts/{HOME}/"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert(1)</script> ü+.txt"


def request(user: str = "editor", **query: str) -> PageRequest:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return PageRequest(USERS[user], "/artifacts", HOME, now, {}, {"tab": "buckets", **query})


@pytest.fixture
async def filled(lab):
    for name, content in (("a.csv", b"x,y\n1,2\n"), ("deep/b.txt", b"hello"), (HOSTILE, b"odd"), ("p.png", PNG)):
        await lab.put(FOLDER + name, content)
    await lab.put(f"{FOLDER}empty", b"")
    return ArtifactsPage(lab.api.cluster.client, Calls(lab.api.app))


async def test_a_person_looks_around(lab, filled):
    text = (await filled.render(request())).body
    assert FOLDER in text
    text = (await filled.render(request(bucket="mlpipeline", prefix=FOLDER))).body
    for part in (">a.csv<", ">deep/<", "&lt;script&gt;", "8 B"):
        assert part in text
    assert "<script>" not in text
    text = (await filled.render(request(bucket="mlpipeline", prefix=f"{FOLDER}deep/"))).body
    assert ">b.txt<" in text


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("a.csv", "<th>x</th>"),
        ("deep/b.txt", "hello"),
        (HOSTILE, "odd"),
        ("p.png", "data:image/png;base64,"),
        ("empty", "0 B"),
    ],
)
async def test_an_object_is_shown(lab, filled, key, words):
    text = (await filled.render(request(bucket="mlpipeline", key=FOLDER + key))).body
    assert words in text
    assert "/apis/v2beta1/objects:download?" in text


async def test_an_object_is_stored_and_read_back(lab, filled):
    form = Form({"action": ("upload",)}, uploads=(Upload("..\\x/new.bin", b"\x00\x01\x02"),))
    await filled.upload(request(bucket="mlpipeline", prefix=FOLDER), form)
    assert await lab.get(f"{FOLDER}new.bin") == b"\x00\x01\x02"
    url = f"{lab.api.url}/apis/v2beta1/objects:download?namespace={HOME}&uri=minio://mlpipeline/{FOLDER}new.bin"
    headers = {"authorization": "Bearer viewer"}
    async with lab.api.session.get(url, headers=headers) as response:
        assert (response.status, await response.read()) == (200, b"\x00\x01\x02")
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''new.bin"
        assert response.headers["content-security-policy"].startswith("sandbox")
    async with lab.api.session.get(url, headers=headers | {"range": "bytes=1-1"}) as response:
        assert (response.status, await response.read()) == (206, b"\x01")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/objects?bucket=mlpipeline", 403, "do not open this"),
        (f"/objects?bucket=mlpipeline&prefix=v2/artifacts/{OTHER}/", 403, "do not open this"),
        ("/objects?bucket=elsewhere&prefix=x/", 403, "do not open this"),
        ("/objects?bucket=a/b", 400, "no slash"),
        (f"/objects:download?uri=minio://mlpipeline/v2/artifacts/{OTHER}/x", 403, "may not read"),
        (f"/objects:preview?uri=minio://mlpipeline/v2/artifacts/{HOME}/gone", 404, "no object"),
        ("/objects:preview", 400, "parameter uri"),
        ("/objects:download?uri=file:///etc/passwd", 400, "does not lie"),
    ],
)
async def test_what_the_keys_of_a_profile_do_not_open(lab, filled, path, status, words):
    sign = "&" if "?" in path else "?"
    found = await lab.api.refused("GET", f"{path}{sign}namespace={HOME}")
    assert found[0] == status
    assert words in found[2]


async def test_who_may(lab, filled):
    uri = f"minio://mlpipeline/{FOLDER}a.csv"
    for path in ("/objects", f"/objects:preview?uri={uri}", f"/objects:download?uri={uri}"):
        sign = "&" if "?" in path else "?"
        assert (await lab.api.refused("GET", f"{path}{sign}namespace={HOME}", user="other"))[:2] == (403, 7)
        assert (await lab.api.call("GET", f"{path}{sign}namespace={HOME}", user=""))[0] == 401
    with pytest.raises(PageError, match="may not"):
        await filled.render(request("other"))
    form = Form({}, uploads=(Upload("x", b"x"),))
    for user in ("viewer", "other"):
        with pytest.raises(PageError, match="may not create runs"):
            await filled.upload(request(user, bucket="mlpipeline", prefix=FOLDER), form)
    with pytest.raises(PageError, match="may not write"):
        await filled.upload(request(bucket="mlpipeline", prefix="elsewhere/"), form)
    with pytest.raises(PageError, match="Choose a file"):
        await filled.upload(request(bucket="mlpipeline"), Form({}))


async def test_several_files_are_stored_and_what_is_deleted_is_gone(lab, filled):
    here = request(bucket="mlpipeline", prefix=f"{FOLDER}many/")
    files = tuple(Upload(f"{n}.txt", str(n).encode()) for n in range(3))
    assert (await filled.upload(here, Form({}, uploads=files))).message == "3 files are stored."
    assert await lab.get(f"{FOLDER}many/2.txt") == b"2"
    text = (await filled.render(here)).body
    assert text.count('value="delete"') == 3
    done = await filled.delete(here, Form({"key": (f"{FOLDER}many/2.txt",)}))
    assert (done.location, done.message) == ("", "2.txt is deleted.")
    shown = request(bucket="mlpipeline", prefix=FOLDER, key=f"{FOLDER}a.csv")
    done = await filled.delete(shown, Form({"key": (f"{FOLDER}a.csv",)}))
    assert "key=" not in done.location
    assert "bucket=mlpipeline" in done.location
    done = await filled.delete(here, Form({"key": (f"{FOLDER}many/",)}))
    assert done.message == "many is deleted, with 2 objects."
    text = (await filled.render(request(bucket="mlpipeline", prefix=FOLDER))).body
    assert ">many/<" not in text
    assert ">deep/<" in text, "only what was meant"


@pytest.mark.parametrize(
    ("user", "key", "refusal"),
    [
        ("viewer", f"{FOLDER}a.csv", (403, "may not delete runs")),
        ("editor", f"v2/artifacts/{OTHER}/x", (403, "may not delete")),
        ("editor", f"v2/artifacts/{OTHER}/", (403, "do not open this")),
        ("editor", f"{FOLDER}nothing/", (404, "nothing at")),
        ("editor", "", (422, "what is to be deleted")),
    ],
)
async def test_what_may_not_be_deleted_stays(lab, filled, user, key, refusal):
    status, words = refusal
    here = request(user, bucket="mlpipeline", prefix=FOLDER)
    with pytest.raises(PageError, match=words) as refused:
        await filled.delete(here, Form({"key": (key,)}))
    assert refused.value.status == status
    assert await lab.get(f"{FOLDER}a.csv") == b"x,y\n1,2\n"
    assert ('value="delete"' in (await filled.render(here)).body) is (user == "editor")
