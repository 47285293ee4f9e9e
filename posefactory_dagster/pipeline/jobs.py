"""Runs over the keys of a partition set: as few as the keys allow, and the good ones carried on to the end."""

from __future__ import annotations

import functools
import graphlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dagster as dg

from posefactory_dagster.pipeline.plans import PlannerFactory, stale
from posefactory_dagster.pipeline.runs import (
    HIDDEN_TAG,
    events,
    failure_texts,
    failures,
    materialized_keys,
    selects,
    starter_tags,
    step_failed,
)
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSets

if TYPE_CHECKING:  # `Definitions.resolve_asset_graph` is public, the class that it returns is not
    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
#: On runs whose starter carries the good keys on by itself, so that the sensor leaves them alone.
CARRIED_BY_STARTER = f"{HIDDEN_TAG}carried_by_starter"
#: On a run's page: its keys, so many by name.
KEYS_TAG, TAG_NAMES = "posefactory/characters", 10
#: The group of the assets that the factory's job makes.
GROUP = "pipeline"
#: In an asset's definition: the inputs that it can do without.
OPTIONAL_INPUTS = "optional_inputs"

factory_job = dg.define_asset_job(
    "characters_to_dataset",
    selection=dg.AssetSelection.groups(GROUP),
    description="All assets of the pipeline, from uploads to a dataset.",
)


@functools.cache
def asset_job(asset: str) -> Any:
    """The job that makes one asset, for sensors; a room lists it among its definitions."""
    return dg.define_asset_job(f"{asset}_job", selection=dg.AssetSelection.assets(asset))


@dataclass(frozen=True)
class Flow:
    """The way of the keys of one partition set, derived from the asset graph.

    ``chain``: the assets that share the set, each after what it needs; ``ends``: the assets without partitions that read
    them; ``required``: which of the chain an end cannot do without, ``optional``: which it can.
    """

    partition_set: str
    chain: tuple[str, ...]
    ends: tuple[str, ...]
    required: frozenset[str]
    optional: frozenset[str]

    @classmethod
    def of(cls, graph: AssetGraph, partition_set: str) -> Flow:
        """The flow of ``partition_set`` in an asset graph; among equals, what an end cannot do without comes first."""
        mine = {k for k in graph.get_all_asset_keys() if _set_of(graph, k) == partition_set}
        ends = [
            key
            for key in graph.get_all_asset_keys()
            if graph.get(key).partitions_def is None and graph.get(key).parent_keys & mine
        ]
        optional: set[str] = set()
        required: set[str] = set()
        for end in ends:
            without = set(graph.get(end).metadata.get(OPTIONAL_INPUTS, ()))
            parents = {k.to_user_string() for k in graph.get(end).parent_keys & mine}
            optional |= parents & without
            required |= parents - without
        return cls(
            partition_set,
            tuple(_sorted(graph, mine, last=optional)),
            tuple(sorted(k.to_user_string() for k in ends)),
            frozenset(required),
            frozenset(optional),
        )

    def selection(self, until: str) -> list[str]:
        """The assets up to ``until``, which is one of the chain or of the ends."""
        if until in self.ends:
            return [*self.chain, until]
        return list(self.chain[: self.chain.index(until) + 1])


def flows(graph: AssetGraph) -> dict[str, Flow]:
    """The flow of each partition set, by its name; a set comes after those whose assets its own assets read."""
    sets: dict[str, set[str]] = {}
    for key in graph.get_all_asset_keys():
        if name := _set_of(graph, key):
            parents = (_set_of(graph, parent) for parent in graph.get(key).parent_keys)
            sets.setdefault(name, set()).update(p for p in parents if p and p != name)
    return {name: Flow.of(graph, name) for name in graphlib.TopologicalSorter(sets).static_order()}


def _set_of(graph: AssetGraph, key: dg.AssetKey) -> str | None:
    partitions = graph.get(key).partitions_def
    return partitions.name if isinstance(partitions, dg.DynamicPartitionsDefinition) else None


def _sorted(graph: AssetGraph, keys: AbstractSet[dg.AssetKey], last: AbstractSet[str]) -> list[str]:
    """The names of assets, each after what it needs; among equals by name, those of ``last`` after the others."""
    sorter = graphlib.TopologicalSorter({k: graph.get(k).parent_keys & keys for k in keys})
    sorter.prepare()
    ready, order = list(sorter.get_ready()), []
    while ready:
        ready.sort(key=lambda k: (k.to_user_string() in last, k.to_user_string()))
        order.append(ready.pop(0))
        sorter.done(order[-1])
        ready += sorter.get_ready()
    return [k.to_user_string() for k in order]


#: Says which keys of other partition sets must be made first, by partition set. Arguments: the sets, the keys that are wanted.
Preparation = Callable[[CommittedSets, Sequence[str]], Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class House:
    """What runs need from all rooms.

    ``jobs``: a selection is run by the smallest that holds all of it; ``planners``: by asset; ``preparations``: by the
    partition set of the keys that are wanted; ``checks`` raise what is wrong with settings, before anything begins; ``before_runs`` clear up what killed runs left;
    ``hints``: by partition set, what to do with a ``{key}`` that goes no further; ``summaries``: how the command line tells
    of what was made in the end, by its name in JSON.
    """

    jobs: tuple[dg.JobDefinition, ...]
    graph: AssetGraph
    planners: Mapping[str, PlannerFactory]
    preparations: Mapping[str, Sequence[Preparation]]
    checks: Sequence[Callable[[], object]]
    before_runs: Sequence[Callable[[dg.DagsterInstance, CommittedSets], object]]
    hints: Mapping[str, str]
    summaries: Callable[[], Mapping[str, Any]]

    @functools.cached_property
    def flows(self) -> dict[str, Flow]:
        """The flow of each partition set."""
        return flows(self.graph)

    @property
    def main_flow(self) -> Flow:
        """The flow that ends in an asset without partitions; the other flows prepare its inputs."""
        return next(flow for flow in self.flows.values() if flow.ends)

    def job_of(self, assets: Sequence[str]) -> dg.JobDefinition:
        """The job that makes these assets."""
        keys = {dg.AssetKey(a) for a in assets}
        made = {job: set(job.asset_layer.executable_asset_keys) for job in self.jobs}
        return min((job for job in made if keys <= made[job]), key=lambda job: len(made[job]))

    def stale_keys(
        self,
        sets: CommittedSets,
        flow: Flow,
        keys: Iterable[str],
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """Keys of which some asset would be made anew with the present files and settings.

        Args:
            overrides: by asset, settings that differ from the project's.
        """
        wanted = [self.planners[asset] for asset in flow.chain if asset in self.planners]
        return stale(sets, keys, [make(sets, overrides or {}) for make in wanted])


def contiguous(keys: Iterable[str], registered: Sequence[str]) -> list[list[str]]:
    """``keys`` in groups that are ranges of the registered keys; one run takes one range."""
    wanted = set(keys)
    groups: list[list[str]] = []
    previous = None
    for place, key in enumerate(registered):
        if key not in wanted:
            continue
        if previous is not None and place == previous + 1:
            groups[-1].append(key)
        else:
            groups.append([key])
        previous = place
    return groups


def range_tags(group: Sequence[str]) -> dict[str, str]:
    """The tags that make a run one over the range ``group``, and tell a person which keys are in it."""
    more = f" and {len(group) - TAG_NAMES} more" if len(group) > TAG_NAMES else ""
    names = ", ".join(group[:TAG_NAMES]) + more
    return {RANGE_START: group[0], RANGE_END: group[-1], KEYS_TAG: names}


@dataclass(frozen=True)
class FollowUp:
    """What is left of a run in which some keys failed; without keys, what has no partitions."""

    partition_set: str
    keys: list[str]
    assets: list[str]


def follow_up(
    graph: AssetGraph, instance: dg.DagsterInstance, run: dg.DagsterRun
) -> FollowUp | None:
    """The good keys of a failed run, and the assets they have not been through; None if nothing is left."""
    for flow in flows(graph).values():
        selected = [a for a in flow.chain if selects(run, a)]
        ends = [a for a in flow.ends if selects(run, a)]
        for place, asset in enumerate(selected):
            if not step_failed(instance, run, asset):
                continue
            keys = materialized_keys(instance, run, asset)
            left = [*selected[place + 1 :], *ends]
            if asset in flow.optional and not keys and left:
                return FollowUp(flow.partition_set, [], left)  # an end can do without this asset
            return FollowUp(flow.partition_set, keys, left) if keys and left else None
    return None


@dataclass
class Report:
    """The result of ``run_keys``.

    ``done``: keys that reached the last asset they were meant to; ``failed``: reasons by key; ``trouble``: what belongs to
    no key.
    """

    runs: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def __iadd__(self, other: Report) -> Report:
        """Add another report to this one."""
        self.runs += other.runs
        self.done += other.done
        self.failed |= other.failed
        self.trouble += [t for t in other.trouble if t not in self.trouble]
        return self


def run_keys(
    house: House,
    instance: dg.DagsterInstance,
    sets: CommittedSets,
    flow: Flow,
    keys: Sequence[str],
    until: str = "",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Report:
    """Take ``keys`` of a partition set through its flow in this process, then carry the good ones on.

    Keys of other sets that they are made from are made first.

    Args:
        keys: registered partition keys.
        until: the last asset; by default all, the ends included.
        overrides: by asset, settings that differ from the project's.
    """
    report = Report()
    _prepare(house, instance, sets, flow, keys, report)
    wants_ends = not until or until in flow.ends
    ends = ([until] if until else list(flow.ends)) if wants_ends else []
    chain = list(flow.chain) if wants_ends else flow.selection(until)
    registered = instance.get_dynamic_partitions(flow.partition_set)
    queue = [(group, chain) for group in contiguous(keys, registered)]
    ends_done = False
    reached: set[str] = set()
    while queue:
        group, assets = queue.pop(0)
        with_ends = bool(ends) and not queue
        selection = [*assets, *ends] if with_ends else assets
        run = _execute(house, instance, selection, range_tags(group), overrides)
        report.runs.append(run.run_id)
        for key, reason in failures(instance, run.run_id).items():
            report.failed.setdefault(key, reason)  # what it is made from tells the cause
        _note_trouble(report, instance, run.run_id)
        reached |= set(materialized_keys(instance, run, chain[-1]))
        ends_done = with_ends and run.is_success
        if not run.is_success and (left := follow_up(house.graph, instance, run)):
            onward = [a for a in left.assets if a not in flow.ends]
            if onward:
                queue += [(g, onward) for g in contiguous(left.keys, registered)]
    wanting = bool(keys) or any(sets.readable(e, layout.UNPARTITIONED) is None for e in ends)
    if (
        ends
        and wanting
        and not ends_done
        and any(all(sets.readable(a, k) for a in flow.required) for k in registered)
    ):
        run = _execute(house, instance, ends, {}, overrides)
        report.runs.append(run.run_id)
        _note_trouble(report, instance, run.run_id)
    report.done = [k for k in keys if k in reached and k not in report.failed]
    return report


def _prepare(
    house: House,
    instance: dg.DagsterInstance,
    sets: CommittedSets,
    flow: Flow,
    keys: Sequence[str],
    report: Report,
) -> None:
    """Make what ``keys`` are made from, as far as it is in other partition sets."""
    known = house.flows
    for name, wanted in _needed(house, sets, flow.partition_set, keys):
        registered = instance.get_dynamic_partitions(name)
        # Of keys of the same kind, others are made from the first asset: who is in a group is inspected, and no more.
        chain = known[name].chain if name != flow.partition_set else known[name].chain[:1]
        first = replace(known[name], chain=chain)
        todo = house.stale_keys(sets, first, [k for k in wanted if k in registered])
        for group in contiguous(todo, registered):
            run = _execute(house, instance, list(chain), range_tags(group), {})
            report.runs.append(run.run_id)
            # What could not be prepared fails by itself where it is wanted, with its own reason.
            for key, reason in failures(instance, run.run_id).items():
                if key in keys:
                    report.failed[key] = reason
                else:
                    report.trouble.append(reason)
            _note_trouble(report, instance, run.run_id)


def _needed(
    house: House,
    sets: CommittedSets,
    partition_set: str,
    keys: Sequence[str],
    seen: frozenset[str] = frozenset(),
) -> list[tuple[str, list[str]]]:
    """What must be made before keys of a partition set, by partition set, in an order in which it can be made.

    It goes in the order of the rooms, and in each as it says; what is needed for that in turn comes before it.
    """
    steps: list[tuple[str, list[str]]] = []
    for prepare in house.preparations.get(partition_set, ()):
        for name, more in prepare(sets, keys).items():
            fresh = [k for k in more if f"{name}/{k}" not in seen]
            if not fresh:
                continue
            # A key that needs itself in the end is told by the asset that makes it.
            steps += _needed(house, sets, name, fresh, seen | {f"{name}/{k}" for k in fresh})
            steps.append((name, list(dict.fromkeys(fresh))))
    merged: dict[str, list[str]] = {}
    for name, more in steps:
        merged[name] = list(dict.fromkeys([*merged.get(name, []), *more]))
    return list(merged.items())


def _note_trouble(report: Report, instance: dg.DagsterInstance, run_id: str) -> None:
    report.trouble += [t for t in failure_texts(instance, run_id) if t not in report.trouble]


def _execute(
    house: House,
    instance: dg.DagsterInstance,
    assets: Sequence[str],
    tags: Mapping[str, str],
    overrides: Mapping[str, Mapping[str, Any]] | None,
) -> dg.DagsterRun:
    # What happens is told through `progress` and kept in the instance; the console stays readable.
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    chosen = {a: {"config": dict(v)} for a, v in (overrides or {}).items() if a in assets}
    if chosen:
        config["ops"] = chosen
    run_id = str(uuid.uuid4())
    house.job_of(assets).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(a) for a in assets],
        tags={**tags, CARRIED_BY_STARTER: "true", **starter_tags()},
        run_config=config,
        raise_on_error=False,
        run_id=run_id,
    )
    run = instance.get_run_by_id(run_id)
    assert run is not None
    for event in events(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE):
        error = event.step_failure_data.error
        if error and "DagsterExecutionInterruptedError" in (error.cls_name or ""):
            raise KeyboardInterrupt  # Dagster makes a failed run of Ctrl-C; the person meant all of it
    return run
