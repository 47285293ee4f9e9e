"""Blender as a Dagster Pipes process."""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from blender_scripts.contract import EVENT_DONE, EVENT_FAILED, EVENT_IMAGE, EVENT_START, Job
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
        on_outcome: process.Callable[[str, process.Outcome], None],
    ) -> dict[str, process.Outcome]:
        """Run a job, with its progress in the Dagster log; see ``process.run_job``."""

        def launch(part: Job, job_path: Path) -> Iterable[process.Event]:
            yield from _launch_with_pipes(context, part, job_path)

        total = len(job.tasks)
        ended = 0

        def on_event(event: process.Event) -> None:
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

        return process.run_job(job, scratch, launch, on_event, on_outcome)


def _launch_with_pipes(
    context: dg.AssetExecutionContext, job: Job, job_path: Path
) -> Iterable[process.Event]:
    log_path = job_path.with_suffix(".log")
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),  # a new one each time: it keeps its place
        extras={"job_id": job.job_id},
    ) as session:
        child = process.start(job.job_type, job_path, log_path, session.get_bootstrap_env_vars())
        seen = 0

        def new_events() -> list[process.Event]:
            nonlocal seen
            messages = session.get_custom_messages()[seen:]
            seen += len(messages)
            return list(messages)

        try:
            yield from process.watch(child, new_events, environment().character_timeout_s)
        finally:
            process.stop(child)
    yield from new_events()  # what the reader still held when the process ended
    yield {"event": "exit", "code": child.returncode, "tail": process.tail(log_path)}
