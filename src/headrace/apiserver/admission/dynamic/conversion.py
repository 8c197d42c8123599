"""Conversion webhooks of custom kinds: objects in one version, asked for in another.

The ConversionReview is `apiextensions.k8s.io/v1`. Of metadata a webhook may change labels and annotations only; what
else it makes of it is put back as it was.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from headrace.api.errors import InternalError
from headrace.apiserver.admission.dynamic.caller import CallFailed, response_of, review

if TYPE_CHECKING:
    from headrace.api.meta import KindInfo
    from headrace.apiserver.admission.dynamic.caller import Caller

Json = dict[str, Any]

_API, _KIND = "apiextensions.k8s.io/v1", "ConversionReview"
_SECONDS = 30.0
_CHANGEABLE = ("labels", "annotations")


async def convert(caller: Caller, client: Json, info: KindInfo, objects: list[Json], version: str) -> list[Json]:
    """The objects in a version of their kind, in their order. Raises InternalError when the webhook fails."""
    wanted = f"{info.group}/{version}"
    pending = [o for o in objects if o["apiVersion"] != wanted]
    if not pending:
        return objects
    uid = str(uuid.uuid4())
    request = {"uid": uid, "desiredAPIVersion": wanted, "objects": pending}
    try:
        answer = await caller.post(client, review(_API, _KIND, request), _SECONDS)
        made = _objects(response_of(answer, _API, _KIND, uid), len(pending))
        done = [_checked(old, new, wanted) for old, new in zip(pending, made, strict=True)]
    except CallFailed as error:
        raise InternalError(
            f"conversion webhook for {pending[0]['apiVersion']}, Kind={info.kind} failed: {error}",
            kind=info.plural,
            group=info.group,
        ) from error
    following = iter(done)
    return [o if o["apiVersion"] == wanted else next(following) for o in objects]


def _objects(response: Json, count: int) -> list[Any]:
    result = response.get("result") or {}
    if result.get("status") != "Success":
        raise CallFailed(str(result.get("message") or "the webhook gave no reason"))
    made = response.get("convertedObjects")
    if not isinstance(made, list) or len(made) != count:
        raise CallFailed(f"expected {count} converted objects, got {len(made) if isinstance(made, list) else 0}")
    return made


def _checked(old: Json, new: Any, wanted: str) -> Json:
    if not isinstance(new, dict) or not isinstance(new.get("metadata"), dict):
        raise CallFailed("a converted object is no object with metadata")
    if new.get("apiVersion") != wanted or new.get("kind") != old["kind"]:
        raise CallFailed(
            f"expected a converted object of {wanted}, Kind={old['kind']}, got {new.get('apiVersion')}, "
            f"Kind={new.get('kind')}"
        )
    meta = {k: v for k, v in old["metadata"].items() if k not in _CHANGEABLE}
    for key in ("name", "namespace", "uid"):
        if (new["metadata"].get(key) or "") != (meta.get(key) or ""):
            raise CallFailed(f"must have the same {key}: {new['metadata'].get(key)} != {meta.get(key)}")
    changed = {key: new["metadata"].get(key) for key in _CHANGEABLE}
    meta |= {key: texts for key, texts in changed.items() if isinstance(texts, dict)}
    return {"apiVersion": wanted, "kind": old["kind"], "metadata": meta} | {
        k: v for k, v in new.items() if k not in {"apiVersion", "kind", "metadata"}
    }
