"""Runs and who started them: a run counts as gone only if its own process is."""

from __future__ import annotations

import os

import dagster as dg
import pytest

from posefactory_dagster import jobs

OURS = jobs._process_tag()  # noqa: SLF001
HERE = jobs._machine()  # noqa: SLF001


@pytest.mark.parametrize(
    ("process", "machine", "goes_on"),
    [
        (OURS, HERE, True),
        (f"{os.getpid()} {float(OURS.split()[1]) + 5:.0f}", HERE, True),
        (f"{os.getpid()} 12345", HERE, False),
        (f"{2**22 + 1} {OURS.split()[1]}", HERE, False),
        (f"{2**22 + 1} {OURS.split()[1]}", f"{HERE}-too", True),
        (None, None, True),
    ],
    ids=["this one", "the clock was set", "its number was given again", "gone", "on another machine", "by the daemon"],
)  # fmt: skip
def test_a_run_goes_on_while_its_process_does(
    process: str | None, machine: str | None, goes_on: bool
) -> None:
    tags = {jobs.STARTER_PROCESS: process, jobs.STARTER_MACHINE: machine} if process else {}
    with dg.instance_for_test() as instance:
        run = instance.create_run_for_job(
            dg.Definitions(jobs=[nothing]).resolve_job_def("nothing"),
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
        )
        assert [r.run_id for r in jobs.runs_in_progress(instance)] == [run.run_id] * goes_on
        after = instance.get_run_by_id(run.run_id)
        assert after is not None and after.is_finished != goes_on


@dg.job
def nothing() -> None:
    """Has no ops."""
