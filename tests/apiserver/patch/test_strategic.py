"""Strategic merge patch on the official types, as kubectl sends it."""

import pytest

from headrace.api.apps import Deployment
from headrace.api.core import ConfigMap, Pod, Service
from headrace.api.errors import BadRequest, UnsupportedMediaType
from headrace.apiserver.patch import bind, merge_strategic
from headrace.apiserver.registry import BUILTIN, KindCatalog
from headrace.apiserver.registry.kinds import builtin
from headrace.apiserver.schema import SchemaCatalog
from headrace.client.base import PatchType


@pytest.fixture(scope="module")
def schemas():
    kinds = KindCatalog()
    kinds.add(builtin(BUILTIN))
    return SchemaCatalog(kinds)


def containers(*names, **fields):
    return {"spec": {"containers": [{"name": n, **fields} for n in names]}}


CASES = {
    "a container is merged by name": (
        Pod,
        {"spec": {"containers": [{"name": "a", "image": "1", "tty": True}, {"name": "b", "image": "1"}]}},
        {"spec": {"containers": [{"name": "a", "image": "2"}]}},
        {"spec": {"containers": [{"name": "a", "image": "2", "tty": True}, {"name": "b", "image": "1"}]}},
    ),
    "a new container comes last": (
        Pod,
        containers("a", image="1"),
        {"spec": {"containers": [{"name": "z", "image": "2"}]}},
        {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "z", "image": "2"}]}},
    ),
    "a container is deleted by directive": (
        Pod,
        containers("a", "b", image="1"),
        {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}},
        containers("b", image="1"),
    ),
    "a list is replaced by directive": (
        Pod,
        containers("a", "b", image="1"),
        {"spec": {"containers": [{"$patch": "replace"}, {"name": "c", "image": "2"}]}},
        containers("c", image="2"),
    ),
    "order is set": (
        Pod,
        containers("a", "b", "c"),
        {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}},
        containers("c", "a", "b"),
    ),
    "what only the server has keeps its place": (
        Pod,
        containers("injected", "a", "b"),
        {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
        containers("injected", "b", "a"),
    ),
    "a map is replaced by directive": (
        ConfigMap,
        {"data": {"a": "1", "b": "2"}},
        {"data": {"$patch": "replace", "c": "3"}},
        {"data": {"c": "3"}},
    ),
    "a map is emptied by directive": (
        ConfigMap,
        {"data": {"a": "1"}},
        {"data": {"$patch": "delete"}},
        {"data": {}},
    ),
    "null removes": (ConfigMap, {"data": {"a": "1", "b": "2"}}, {"data": {"a": None}}, {"data": {"b": "2"}}),
    "an atomic list is replaced": (
        Pod,
        {"spec": {"containers": [{"name": "a", "args": ["x", "y"]}]}},
        {"spec": {"containers": [{"name": "a", "args": ["z"]}]}},
        {"spec": {"containers": [{"name": "a", "args": ["z"]}]}},
    ),
    "finalizers are a merged set": (
        ConfigMap,
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}},
        {"metadata": {"finalizers": ["b", "c"]}},
    ),
    "only deleting from a primitive list": (
        ConfigMap,
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
        {"metadata": {"finalizers": ["b"]}},
    ),
    "retained keys drop the others": (
        Deployment,
        {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}},
        {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
        {"spec": {"strategy": {"type": "Recreate"}}},
    ),
    "a volume changes its source": (
        Pod,
        {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
        {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}},
        {"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}},
    ),
    "ports merge by port": (
        Service,
        {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}},
        {"spec": {"ports": [{"port": 81, "targetPort": 8081}]}},
        {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 8081}]}},
    ),
    "below maps without strategy": (
        Deployment,
        {"spec": {"template": {"spec": {"containers": [{"name": "a", "env": [{"name": "X", "value": "1"}]}]}}}},
        {
            "spec": {
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": "a",
                                "env": [{"name": "Y", "value": "2"}],
                                "$setElementOrder/env": [{"name": "Y"}, {"name": "X"}],
                            }
                        ]
                    }
                }
            }
        },
        {
            "spec": {
                "template": {
                    "spec": {
                        "containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}]
                    }
                }
            }
        },
    ),
    "nothing of a directive is stored": (
        Pod,
        {},
        {"spec": {"containers": [{"name": "a", "image": "1"}], "$setElementOrder/containers": [{"name": "a"}]}},
        containers("a", image="1"),
    ),
    "conditions merge by type": (
        Pod,
        {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}]}},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_merges(schemas, name):
    kind, document, patch, result = CASES[name]
    before = repr(document)
    assert merge_strategic(document, patch, schemas.node(kind.INFO)) == result
    assert repr(document) == before


def test_refusals(schemas):
    node = schemas.node(Pod.INFO)
    with pytest.raises(BadRequest, match="merge key"):
        merge_strategic(containers("a"), {"spec": {"containers": [{"image": "x"}]}}, node)
    with pytest.raises(BadRequest, match="unknown patch type"):
        merge_strategic({}, {"$patch": "explode"}, node)
    with pytest.raises(UnsupportedMediaType, match="merge-patch"):
        bind(PatchType.STRATEGIC, {}, None)
    with pytest.raises(UnsupportedMediaType, match="a verb of its own"):
        bind(PatchType.APPLY, {}, node)
    with pytest.raises(BadRequest):
        bind(PatchType.MERGE, [], node)
    with pytest.raises(BadRequest):
        bind(PatchType.JSON, {}, node)
