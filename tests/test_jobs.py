"""Runs and who started them: a run counts as gone only if its own process is."""

from __future__ import annotations

import os

import dagster as dg
import pytest
from posefactory_dagster.assets import ASSETS, chain

from posefactory_dagster.definitions import defs
from posefactory_dagster.pipeline import jobs
from posefactory_dagster.pipeline.partitions import CHARACTERS

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


def test_the_way_of_a_character_follows_the_asset_graph() -> None:
    order = jobs.CHAIN
    assert order[:2] == ["character", "multi_angle_renders"] and "pose_dataset" not in order
    graph = defs.resolve_asset_graph()
    for asset in order:
        needs = {k.to_user_string() for k in graph.get(dg.AssetKey(asset)).parent_keys}
        assert needs <= set(order[: order.index(asset)])
    # Whatever the order in which rooms are listed.
    assert set(chain(ASSETS[::-1])) == set(order) and chain(ASSETS[::-1])[0] == "character"


def test_a_new_asset_of_characters_joins_the_way_without_another_edit() -> None:
    @dg.asset(partitions_def=CHARACTERS)
    def silhouettes(multi_angle_renders: object) -> None:
        """Reads the renders."""

    order = chain([silhouettes, *ASSETS])
    assert order.index("silhouettes") > order.index("multi_angle_renders")
