"""What the pages do with runs: stop, retry, archive, restore, delete, many at once; and the way to comparing them.

Invariants: every run is asked for by its own namespace before the first one is touched, so that a list in which one
run is not the person's changes nothing; what cannot be done with a run is said and never a failure of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from headrace.components.pipelines.policy.rerun import rerun
from headrace.components.pipelines.policy.view import build_view
from headrace.components.pipelines.store.models import RuntimeState, StorageState
from headrace.components.pipelines.store.repository import RunNotFound
from headrace.components.pipelines.types.ir import SpecError
from headrace.components.pipelines.ui.recent import GROUP
from headrace.machinery.pages import Done, PageError, authorize
from headrace.machinery.words import _

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from headrace.components.pipelines.store.catalog import Catalog
    from headrace.components.pipelines.store.models import Run
    from headrace.components.pipelines.ui.follow import FollowedRuns
    from headrace.machinery.component import Context
    from headrace.machinery.pages import Form, PageRequest

MAX_RUNS = 200
MAX_COMPARED = 10
VERBS = ("terminate", "retry", "archive", "unarchive", "delete")
RETRYABLE = frozenset({RuntimeState.FAILED, RuntimeState.CANCELED})


class RunActs:
    """Actions of the list of runs and of a run's page: the first takes the runs from the form, the second its own."""

    def __init__(self, context: Context, catalog: Catalog, runs: FollowedRuns) -> None:
        self._context, self._catalog, self._runs = context, catalog, runs

    async def allowed(self, request: PageRequest, namespace: str, verbs: Iterable[str] = VERBS) -> frozenset[str]:
        """Which of these the person may do there: other buttons are not shown."""
        client = self._context.client
        return frozenset(
            [
                verb
                for verb in verbs
                if await client.review_access(request.user, verb, group=GROUP, resource="runs", namespace=namespace)
            ]
        )

    async def terminate(self, request: PageRequest, form: Form) -> Done:
        """Stop what goes on."""
        done, left = await self._each(request, form, "terminate", self._terminate)
        return _said(
            done,
            left,
            _("The run is being stopped."),
            _("{n} runs are being stopped.", n=done),
            _("It has ended already: there is nothing to stop."),
        )

    async def retry(self, request: PageRequest, form: Form) -> Done:
        """Go on from the steps that failed or were stopped."""
        done, left = await self._each(request, form, "retry", self._retry)
        return _said(
            done,
            left,
            _("The run goes on from the step that failed."),
            _("{n} runs go on from the steps that failed.", n=done),
            _("Only a run that failed or was stopped can be retried."),
        )

    async def archive(self, request: PageRequest, form: Form) -> Done:
        """Out of the ordinary list."""
        done, left = await self._each(request, form, "archive", self._archive)
        return _said(
            done,
            left,
            _("The run is in the archive."),
            _("{n} runs are in the archive.", n=done),
            _("It is archived already."),
        )

    async def unarchive(self, request: PageRequest, form: Form) -> Done:
        """Back into the ordinary list."""
        done, left = await self._each(request, form, "unarchive", self._unarchive)
        return _said(
            done,
            left,
            _("The run is in the list again."),
            _("{n} runs are in the list again.", n=done),
            _("It is in the list, or its experiment is archived: then restore the experiment first."),
        )

    async def delete(self, request: PageRequest, form: Form) -> Done:
        """Forget the runs. A run's own page is left."""
        done, left = await self._each(request, form, "delete", self._delete)
        said = _said(
            done, left, _("The run is deleted."), _("{n} runs are deleted.", n=done), _("There is no such run.")
        )
        return Done("/runs", said.message) if "run" in request.parameters else said

    async def compare(self, request: PageRequest, form: Form) -> Done:
        """To the page that shows runs side by side; it authorizes by itself."""
        ids = _ids(request, form)
        if not 2 <= len(ids) <= MAX_COMPARED:
            raise PageError(422, _("Nothing to compare"), _("Choose two runs, or up to {n}.", n=MAX_COMPARED))
        return Done(f"/compare?{urlencode([('run', ident) for ident in ids])}")

    async def _each(
        self, request: PageRequest, form: Form, verb: str, work: Callable[[Run], Awaitable[bool]]
    ) -> tuple[int, int]:
        """How many runs it was done with, and how many it could not be done with."""
        ids = _ids(request, form)
        if not ids:
            raise PageError(422, _("Nothing to do"), _("Choose at least one run."))
        if len(ids) > MAX_RUNS:
            raise PageError(422, _("Too many runs"), _("At most {n} runs can be changed at once.", n=MAX_RUNS))
        runs = [run for run in [await self._runs.get_run(ident) for ident in ids] if run is not None]
        for namespace in {run.namespace for run in runs}:
            await authorize(self._context.client, request, verb, "runs", group=GROUP, namespace=namespace)
        done = 0
        for run in runs:
            if await work(run):
                done += 1
                self._runs.changed.fire(run.id)
        return done, len(ids) - done

    async def _terminate(self, run: Run) -> bool:
        try:
            return not run.state.final and await self._runs.request_termination(run.id)
        except RunNotFound:
            return False

    async def _retry(self, run: Run) -> bool:
        loaded = await self._runs.show_run(run.id)
        if loaded is None or loaded.run.state not in RETRYABLE:
            return False
        try:
            view = build_view(loaded)
        except SpecError as error:
            words = _("The pipeline of {run} cannot run, also not again: {error}", run=run.display_name, error=error)
            raise PageError(409, _("Nothing was done"), words) from error
        return await self._runs.retry_run(loaded.run, rerun(view.spec, view.tasks))

    async def _archive(self, run: Run) -> bool:
        if run.storage_state is StorageState.ARCHIVED:
            return False
        await self._catalog.set_run_storage(run.id, StorageState.ARCHIVED)
        return True

    async def _unarchive(self, run: Run) -> bool:
        experiment = await self._catalog.get_experiment(run.experiment_id)
        held = experiment is not None and experiment.storage_state is StorageState.ARCHIVED
        if held or run.storage_state is StorageState.AVAILABLE:
            return False
        await self._catalog.set_run_storage(run.id, StorageState.AVAILABLE)
        return True

    async def _delete(self, run: Run) -> bool:
        return await self._runs.delete_run(run.id)


def _ids(request: PageRequest, form: Form) -> list[str]:
    own = request.parameters.get("run")
    return [own] if own else list(dict.fromkeys(form.all("run")))


def _said(done: int, left: int, one: str, many: str, refused: str) -> Done:
    """What came of it. Raises PageError when nothing was done."""
    if not done:
        raise PageError(409, _("Nothing was done"), refused)
    told = one if done == 1 else many
    rest = _("Left as they were: {n}.", n=left)
    return Done(message=f"{told} {rest}" if left else told)
