"""Runs and who started them: a run counts as gone only if its own process is."""

from __future__ import annotations

import os

import dagster as dg
import pytest

from posefactory_dagster.definitions import defs, house
from posefactory_dagster.pipeline import runs
from posefactory_dagster.pipeline.jobs import flows
from posefactory_dagster.pipeline.partitions import partition_set

OURS = runs._process_tag()  # noqa: SLF001
HERE = runs._machine()  # noqa: SLF001


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
    tags = {runs.STARTER_PROCESS: process, runs.STARTER_MACHINE: machine} if process else {}
    with dg.instance_for_test() as instance:
        run = instance.create_run_for_job(
            dg.Definitions(jobs=[nothing]).resolve_job_def("nothing"),
            status=dg.DagsterRunStatus.STARTED,
            tags=tags,
        )
        assert [r.run_id for r in runs.runs_in_progress(instance)] == [run.run_id] * goes_on
        after = instance.get_run_by_id(run.run_id)
        assert after is not None and after.is_finished != goes_on


@dg.job
def nothing() -> None:
    """Has no ops."""


def test_the_way_of_a_character_follows_the_asset_graph() -> None:
    flow = house().main_flow
    order = flow.chain
    assert order[:2] == ("character", "multi_angle_renders") and flow.ends == ("pose_dataset",)
    assert order[-1] == "enhanced_variants" and flow.optional == {"enhanced_variants"}
    graph = defs.resolve_asset_graph()
    for asset in order:
        needs = {k.to_user_string() for k in graph.get(dg.AssetKey(asset)).parent_keys}
        assert needs & set(order) <= set(order[: order.index(asset)])


def test_what_others_are_made_from_comes_first() -> None:
    names = list(house().flows)
    assert names.index("motion") < names.index("cast")


def test_a_new_asset_of_characters_joins_the_way_without_another_edit() -> None:
    @dg.asset(partitions_def=partition_set("character"))
    def silhouettes(multi_angle_renders: object) -> None:
        """Reads the renders."""

    wider = dg.Definitions.merge(defs, dg.Definitions(assets=[silhouettes]))
    order = flows(wider.resolve_asset_graph())["character"].chain
    assert order.index("silhouettes") > order.index("multi_angle_renders")
