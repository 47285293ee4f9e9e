"""Blender as a Dagster Pipes process."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import dagster as dg
import dagster_pipes

from blender_scripts import supervise
from blender_scripts.contract import (
    EVENT_DONE,
    EVENT_FAILED,
    EVENT_IMAGE,
    EVENT_START,
    PIPES_MODULE_VARIABLE,
    Job,
)
from blender_scripts.supervise import Event, Outcome
from posefactory_dagster import progress
from posefactory_dagster.blender import process
from posefactory_dagster.settings import environment


class BlenderResource(dg.ConfigurableResource):
    """Runs job documents in Blender on this machine."""

    def run_job(
        self,
        context: dg.AssetExecutionContext,
        job: Job,
        scratch: Path,
        on_outcome: Callable[[str, Outcome], None],
    ) -> dict[str, Outcome]:
        """Run a job, with its progress in the Dagster log; see ``supervise.run_job``."""

        def launch(part: Job, job_path: Path) -> Iterable[Event]:
            yield from _launch_with_pipes(context, part, job_path)

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

        return supervise.run_job(job, scratch, launch, on_event, on_outcome)


def _launch_with_pipes(
    context: dg.AssetExecutionContext, job: Job, job_path: Path
) -> Iterable[Event]:
    log_path = job_path.with_suffix(".log")
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),  # a new one each time: it keeps its place
        extras={"job_id": job.job_id},
    ) as session:
        environment_of_child = {
            **supervise.without_secrets(os.environ),
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
