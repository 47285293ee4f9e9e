"""Blender for assets: on this machine as a Dagster Pipes process, or on machines elsewhere."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import dagster_pipes
from pydantic import Field

from blender_scripts import supervise
from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    PIPES_MODULE_VARIABLE,
    Job,
    RenderSettings,
    Task,
)
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster import progress
from posefactory_dagster.compute import process
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.record import JobRecord
from posefactory_dagster.compute.work import Work
from posefactory_dagster.settings import environment
from posefactory_dagster.storage.sets import CommittedSets

if TYPE_CHECKING:
    from posefactory_dagster.compute.runpod.lease import PodLease

#: Hears how a character ended; returns what went wrong in taking it over, or None.
OnOutcome = Callable[[str, Outcome], str | None]


class BlenderResource(dg.ConfigurableResource):
    """Runs job documents in Blender."""

    render_on: str = Field(
        default="", description="local, pod or serverless; empty: POSEFACTORY_RENDER_ON says it."
    )

    @property
    def place(self) -> str:
        """Where renders run: ``local``, ``pod`` or ``serverless``."""
        return self.render_on or environment().render_on

    def run_here(
        self,
        context: dg.AssetExecutionContext,
        job: Job,
        scratch: Path,
        on_outcome: Callable[[str, Outcome], None],
    ) -> dict[str, Outcome]:
        """Run a job on this machine, with its progress in the log; see ``supervise.run_job``."""

        def launch(part: Job, job_path: Path) -> Iterable[Event]:
            yield from _launch_with_pipes(context, part, job_path)

        listener = _progress(context, job)
        return supervise.run_job(job, scratch, launch, listener, on_outcome)

    def render(
        self,
        context: dg.AssetExecutionContext,
        settings: RenderSettings,
        work: Mapping[str, Work],
        sets: CommittedSets,
        scratch: Path,
        on_outcome: OnOutcome,
        lease: "PodLease",
    ) -> None:
        """Render characters where ``render_on`` says; each ends with one outcome.

        Done here, a character's files lie in ``scratch/<key>``; done elsewhere, they are in the store and
        the outcome lists them. What was asked and how it went is recorded under ``jobs/`` in the store.

        Args:
            lease: what the run holds of rented machines.

        Raises:
            dagster.Failure: nothing could be started; the text says what to do.
        """
        tasks = [
            _task(key, w, scratch, settings, local=self.place == "local") for key, w in work.items()
        ]
        looks = {name: look for w in work.values() for name, look in w.looks.items()}
        job = new_job("render", tasks, settings, looks)
        record = JobRecord(sets.store, job, self.place, context.run.run_id)

        def recorded(key: str, outcome: Outcome) -> None:
            fault = on_outcome(key, outcome) or outcome.error
            if fault is None:
                record.results[key] = work[key].ref
            else:
                record.errors[key] = fault

        record.open()
        try:
            if self.place == "local":
                self.run_here(context, job, scratch, recorded)
            else:
                self._elsewhere(context, job, work, sets, record, recorded, lease)
        finally:
            record.close()

    def _elsewhere(
        self,
        context: dg.AssetExecutionContext,
        job: Job,
        work: Mapping[str, Work],
        sets: CommittedSets,
        record: JobRecord,
        on_outcome: Callable[[str, Outcome], None],
        lease: "PodLease",
    ) -> None:
        from posefactory_dagster.budget.estimates import OverBudget
        from posefactory_dagster.compute.runpod.account import bucket_of
        from posefactory_dagster.compute.runpod.api import RunPodError
        from posefactory_dagster.compute.runpod.rendering import PodRenderer
        from posefactory_dagster.compute.runpod.reports import PodReport, tell_report
        from posefactory_dagster.compute.runpod.serverless import EndpointReport, ServerlessRenderer

        def on_report(report: PodReport | EndpointReport) -> None:
            tell_report(context, record, report.metadata())

        listener = _progress(context, job)
        try:
            store = bucket_of(sets.store)
            if self.place == "pod":
                PodRenderer(context, store, listener, on_outcome, on_report, lease).render(
                    job, work
                )
            elif self.place == "serverless":
                ServerlessRenderer(
                    context,
                    store,
                    listener,
                    on_outcome,
                    record.under_way,
                    on_report,
                    lease.settings,
                ).render(job, work)
            else:
                raise RunPodError(f"render_on is {self.place!r}: choose local, pod or serverless")
        except (RunPodError, OverBudget) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error


def _task(key: str, work: Work, scratch: Path, settings: RenderSettings, *, local: bool) -> Task:
    if local:
        files = {role: str(held.path(name)) for role, (held, name) in work.inputs.items()}
    else:
        files = {role: name for role, (_, name) in work.inputs.items()}
    output = str(scratch / key) if local else key
    return work.task(files, output, settings)


def _progress(context: dg.AssetExecutionContext, job: Job) -> Callable[[Event], None]:
    """Tells a job's events to the log and to whoever follows the progress."""
    total = len(job.tasks)
    ended = 0

    def on_event(event: Event) -> None:
        nonlocal ended
        kind, key = event["event"], event.get("key")
        if kind == EVENT_START:
            context.log.info(f"{key}: begun")
            progress.tell(f"{job.job_type} {key}", ended, total)
        elif kind == EVENT_IMAGE:
            progress.tell(f"{job.job_type} {key} image", event["done"], event["total"])
        elif kind == EVENT_DONE:
            ended += 1
            spent = ", ".join(f"{k} {v:.2f} s" for k, v in event["seconds"].items())
            context.log.info(f"{key}: done, {ended} of {total} ({spent})")
        elif kind == EVENT_FAILED:
            ended += 1
            context.log.error(f"{key}: failed, {ended} of {total}: {event['error']}")

    return on_event


def _launch_with_pipes(
    context: dg.AssetExecutionContext, job: Job, job_path: Path
) -> Iterable[Event]:
    log_path = job_path.with_suffix(".log")
    with (
        dg.open_pipes_session(
            context=context,
            context_injector=dg.PipesTempFileContextInjector(),
            message_reader=dg.PipesTempFileMessageReader(),  # a new one each time: it keeps its place
            extras={"job_id": job.job_id},
        ) as session,
        supervise.temporary_folder(job_path) as temporary,
    ):
        environment_of_child = {
            **supervise.for_blender(os.environ),
            **temporary,
            **session.get_bootstrap_env_vars(),
            PIPES_MODULE_VARIABLE: str(Path(dagster_pipes.__file__)),
        }
        command = process.command(job.job_type, job_path)
        child = supervise.start(command, log_path, environment_of_child)
        seen = 0

        def new_events() -> list[Event]:
            nonlocal seen
            messages = session.get_custom_messages()[seen:]
            seen += len(messages)
            return list(messages)

        try:
            yield from supervise.watch(child, new_events, environment().character_timeout_s)
        finally:
            supervise.stop(child)
    yield from new_events()  # what the reader still held when the process ended
    yield {"event": "exit", "code": child.returncode, "tail": supervise.tail(log_path)}
