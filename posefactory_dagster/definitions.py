"""The code location: what all rooms define, merged; see ``rooms.py``."""

import functools
from collections.abc import Callable, Mapping

import dagster as dg

from posefactory_dagster.pipeline.jobs import House, Preparation
from posefactory_dagster.pipeline.plans import PlannerFactory
from posefactory_dagster.rooms import modules
from posefactory_dagster.terminal import Summary

defs = dg.Definitions.merge(
    *(module.defs for module in modules("definitions")),
    # One process per run: a step costs seconds to start, and Blender is a process of its own anyway.
    dg.Definitions(executor=dg.in_process_executor),
)


@functools.cache
def house() -> House:
    """What runs need from all rooms."""
    planners: dict[str, PlannerFactory] = {}
    preparations: dict[str, list[Preparation]] = {}
    checks: list[Callable[[], object]] = []
    before_runs: list[Callable[..., object]] = []
    hints: dict[str, str] = {}
    for module in modules("definitions"):
        planners |= getattr(module, "PLANNERS", {})
        for name, prepare in getattr(module, "PREPARATIONS", {}).items():
            preparations.setdefault(name, []).append(prepare)
        checks += getattr(module, "CHECKS", ())
        before_runs += getattr(module, "BEFORE_RUNS", ())
        hints |= getattr(module, "HINTS", {})
    return House(
        jobs=tuple(defs.resolve_all_job_defs()),
        graph=defs.resolve_asset_graph(),
        planners=planners,
        preparations=preparations,
        checks=checks,
        before_runs=before_runs,
        hints=hints,
        summaries=summaries,
    )


def summaries() -> Mapping[str, Summary]:
    """How the command line tells of what was made in the end, by its name in JSON."""
    found: dict[str, Summary] = {}
    for module in modules("cli"):
        found |= getattr(module, "SUMMARIES", {})
    return found
