"""Pipelines as a component: its roles, its API at two paths, its engine."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.components.pipelines.types.resources import GROUP, PipelineObject, PipelineVersionObject
from headrace.machinery.component import Component, HostService, Mount, Parts
from headrace.machinery.roles import user_role
from headrace.machinery.settings import SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from headrace.machinery.component import Context
    from headrace.machinery.settings import Settings

PATHS = ("/apis/v2beta1", "/pipeline/apis/v2beta1")
V1_PATHS = ("/apis/v1beta1", "/pipeline/apis/v1beta1")
"""Where clients look: directly at the API server, and below the dashboard's address."""
PORT = 8888
_READ = [
    {"apiGroups": [GROUP], "resources": ["pipelines", "pipelines/versions", "experiments"], "verbs": ["get", "list"]},
    {"apiGroups": [GROUP], "resources": ["runs"], "verbs": ["get", "list", "readArtifact"]},
    {"apiGroups": [GROUP], "resources": ["jobs"], "verbs": ["get", "list"]},
    {"apiGroups": [GROUP], "resources": ["pipelineversions"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [GROUP], "resources": ["pipelines"], "verbs": ["watch"]},
    {"apiGroups": [GROUP], "resources": ["visualizations"], "verbs": ["create"]},
    {"apiGroups": ["kubeflow.org"], "resources": ["viewers"], "verbs": ["create", "get", "delete"]},
]
_WRITE = [
    {"apiGroups": [GROUP], "resources": ["pipelineversions"], "verbs": ["create", "update", "patch", "delete"]},
    {"apiGroups": [GROUP], "resources": ["pipelines"], "verbs": ["patch"]},
    {"apiGroups": [GROUP], "resources": ["pipelines", "pipelines/versions"], "verbs": ["create", "update", "delete"]},
    {"apiGroups": [GROUP], "resources": ["experiments"], "verbs": ["create", "archive", "unarchive", "delete"]},
    {"apiGroups": [GROUP], "resources": ["jobs"], "verbs": ["create", "enable", "disable", "delete"]},
    {
        "apiGroups": [GROUP],
        "resources": ["runs"],
        "verbs": ["create", "archive", "unarchive", "delete", "retry", "terminate", "reportMetrics"],
    },
]


def build(context: Context) -> Parts:
    """The API, the engine and the scheduler over one database."""
    from headrace.components.pipelines.api.access import Access  # noqa: PLC0415 - imported when enabled
    from headrace.components.pipelines.api.app import build_apps  # noqa: PLC0415
    from headrace.components.pipelines.api.fetch import Packages  # noqa: PLC0415
    from headrace.components.pipelines.api.launch import check  # noqa: PLC0415
    from headrace.components.pipelines.api.objects import Objects  # noqa: PLC0415
    from headrace.components.pipelines.api.packages import parse  # noqa: PLC0415
    from headrace.components.pipelines.api.requests import Services  # noqa: PLC0415
    from headrace.components.pipelines.controller import build_engine  # noqa: PLC0415
    from headrace.components.pipelines.controller.afterwards import Afterwards  # noqa: PLC0415
    from headrace.components.pipelines.controller.resources import (  # noqa: PLC0415
        PipelineRecords,
        PipelineVersionRecords,
        forget,
        version_validator,
    )
    from headrace.components.pipelines.controller.schedules import Scheduler  # noqa: PLC0415
    from headrace.components.pipelines.migrations import upgrade  # noqa: PLC0415
    from headrace.components.pipelines.store.catalog import Catalog  # noqa: PLC0415
    from headrace.components.pipelines.store.followups import FollowUps  # noqa: PLC0415
    from headrace.components.pipelines.store.leaving import forget_namespace  # noqa: PLC0415
    from headrace.components.pipelines.store.lineage import Lineage  # noqa: PLC0415
    from headrace.components.pipelines.store.metrics import Metrics  # noqa: PLC0415
    from headrace.components.pipelines.store.recurring import RecurringRuns  # noqa: PLC0415
    from headrace.components.pipelines.ui import pages_of  # noqa: PLC0415
    from headrace.components.pipelines.ui.authoring import authoring_pages  # noqa: PLC0415
    from headrace.components.pipelines.ui.example import example_of, upload_of  # noqa: PLC0415
    from headrace.components.pipelines.ui.finder import finders_of  # noqa: PLC0415
    from headrace.components.pipelines.ui.follow import FollowedRuns  # noqa: PLC0415
    from headrace.machinery.events import EventRecorder  # noqa: PLC0415
    from headrace.machinery.leaving import Leaving  # noqa: PLC0415
    from headrace.machinery.sql import Database  # noqa: PLC0415

    database = Database(f"sqlite:///{context.settings.state / 'pipelines.db'}")
    repository = FollowedRuns(database, context.clock)
    events = EventRecorder(context.client, context.clock, "pipelines")
    afterwards = Afterwards(context.client, context.clock, repository, FollowUps(database), events)
    engine = build_engine(context, repository, afterwards)
    recurring = RecurringRuns(database, context.clock, repository)
    scheduler = Scheduler(context.clock, recurring, repository, check)
    objects = Objects(context.client, context.clock, f"http://127.0.0.1:{context.settings.ports.objectstore}")
    catalog = Catalog(database, context.clock)
    packages = Packages(objects)
    services = Services(
        catalog=catalog,
        runs=repository,
        recurring=recurring,
        access=Access(context.client),
        objects=objects,
        metrics=Metrics(database),
        lineage=Lineage(database, context.clock),
        packages=packages,
        forget=partial(forget, context.client),
        logs=context.logs,
    )
    app, old = build_apps(services)

    async def start() -> None:
        await database.open(upgrade)
        await engine.start()
        await scheduler.start()
        await afterwards.start()

    async def stop() -> None:
        await afterwards.stop()
        await scheduler.stop()
        await engine.stop()
        await database.close()

    async def health() -> str:
        await database.run(lambda connection: connection.exec_driver_sql("SELECT 1").first())
        return ""

    pages, panels = pages_of(context, database, repository, app)
    digits, start_digits = example_of(context, app)
    return Parts(
        controllers=(
            PipelineRecords(context.client, context.clock, catalog),
            PipelineVersionRecords(context.client, context.clock, catalog, parse, packages.spec),
            Leaving("pipelines", context.client, partial(forget_namespace, database, repository)),
        ),
        validators=(version_validator(parse),),
        mounts=(*(Mount(path, app) for path in PATHS), *(Mount(path, old) for path in V1_PATHS)),
        services=(HostService("ml-pipeline", SYSTEM_NAMESPACE, PORT, context.settings.ports.gateway),),
        start=start,
        stop=stop,
        # First: /runs/new is not a run.
        pages=(*authoring_pages(context, database, repository, recurring, packages=packages, app=app), *pages, digits),
        panels=panels,
        starts=(start_digits, upload_of(context)),
        finders=finders_of(context, database, app),
        health=health,
    )


def objects(_settings: Settings) -> list[dict[str, Any]]:
    """Roles for users, gathered into `kubeflow-view` and `kubeflow-edit` (upstream: view-edit-cluster-roles.yaml)."""
    return [
        user_role("kubeflow-pipelines-view", "view", _READ),
        user_role("kubeflow-pipelines-edit", "edit", [*_READ, *_WRITE]),
    ]


COMPONENT = Component(
    name="pipelines",
    title="Pipelines",
    build=build,
    requires=frozenset({"objectstore", "profiles"}),
    kinds=(PipelineObject, PipelineVersionObject),
    objects=objects,
)
