"""The batch group, `batch/v1` (k8s.io/api/batch/v1)."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from headrace.api.core import ObjectReference, PodCondition, PodTemplateSpec
from headrace.api.meta import KindInfo, LabelSelector, Object, Struct, Time


class JobSpec(Struct):
    """Run pods until `completions` have succeeded."""

    template: PodTemplateSpec = msgspec.field(default_factory=PodTemplateSpec)
    parallelism: int | None = None
    completions: int | None = None
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    selector: LabelSelector | None = None
    manual_selector: bool | None = None
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = ""
    suspend: bool | None = None


class JobStatus(Struct):
    """Counts and conditions (Complete, Failed, Suspended)."""

    conditions: list[PodCondition] = []
    start_time: Time | None = None
    completion_time: Time | None = None
    active: int = 0
    ready: int | None = None
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None


class Job(Object):
    """A task that runs to completion."""

    INFO: ClassVar[KindInfo] = KindInfo("batch", "v1", "Job", "jobs", categories=("all",))
    spec: JobSpec = msgspec.field(default_factory=JobSpec)
    status: JobStatus = msgspec.field(default_factory=JobStatus)


class CronJobSpec(Struct):
    """Jobs at the times of a schedule; the template of the jobs stays plain JSON, so that no field of it is lost."""

    schedule: str = ""
    job_template: dict[str, Any] = {}
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    successful_jobs_history_limit: int | None = None
    failed_jobs_history_limit: int | None = None


class CronJobStatus(Struct):
    """The jobs that run, and when the last was due and when one last succeeded."""

    active: list[ObjectReference] = []
    last_schedule_time: Time | None = None
    last_successful_time: Time | None = None


class CronJob(Object):
    """A job that comes again and again."""

    INFO: ClassVar[KindInfo] = KindInfo("batch", "v1", "CronJob", "cronjobs", short_names=("cj",), categories=("all",))
    spec: CronJobSpec = msgspec.field(default_factory=CronJobSpec)
    status: CronJobStatus = msgspec.field(default_factory=CronJobStatus)


KINDS: tuple[type[Object], ...] = (Job, CronJob)
