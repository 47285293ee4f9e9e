"""Partition sets, and how an asset step records each of its keys by itself."""

import functools
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.settings import environment
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef
from posefactory_dagster.storage.store import DamagedObject, StoreError


@functools.cache
def partition_set(name: str) -> dg.DynamicPartitionsDefinition:
    """The partition set of a room, by the name that its `documents.py` gives; assets of several rooms may share one."""
    return dg.DynamicPartitionsDefinition(name=name)


#: The type of an asset's value, references to committed sets by partition key; said where an asset has checks too, as then
#: Dagster does not take it from the annotation.
REFERENCES = dg.Any
#: In a failure's metadata: the keys that failed, with their reasons.
FAILED_KEYS = "failed_keys"
#: In an observation of a partition: why it could not be made.
FAILED = "failed"


def rounded(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as people read it: no more digits than mean something."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in metadata.items()}


def check_of(asset: str, name: str, keys: str, description: str) -> dg.AssetCheckSpec:
    """A check of an asset, with a result for each of its keys; see ``PartitionLedger.check``.

    Args:
        keys: the partition set.
    """
    return dg.AssetCheckSpec(
        name, asset=asset, description=description, partitions_def=partition_set(keys)
    )


def viewer_link(name: str, kind: str) -> dg.MetadataValue:
    """Where `posefactory view` shows something of a ``kind``, which is the page's path."""
    return dg.MetadataValue.url(f"{environment().view_address}/{kind}/{name}")


class PartitionLedger:
    """Which keys came through a step and which did not.

    A step over a range that returns normally counts every key of its range as materialized, and one
    that raises counts none. So each good key is recorded as it is done, and a step with bad keys
    ends in one ``Failure`` that names them; good keys stay green, and are carried on by a run of
    their own (``jobs.py``).
    """

    def __init__(self, context: dg.AssetExecutionContext, sets: CommittedSets) -> None:
        self._context = context
        self._sets = sets
        self._asset = context.asset_key
        self._keys = list(context.partition_keys)
        # The context's class does not say that a run has one partition set, and which.
        self._partition_set = str(getattr(context.assets_def.partitions_def, "name", ""))
        self._good: dict[str, tuple[SetRef, dict[str, Any]]] = {}
        self._bad: dict[str, str] = {}
        mine = (k.name for k in context.selected_asset_check_keys if k.asset_key == self._asset)
        self._checks: dict[str, dict[str, str | None]] = {name: {} for name in mine}

    @property
    def keys(self) -> list[str]:
        """The partition keys of this step."""
        return self._keys

    @property
    def failed(self) -> bool:
        """Whether a key has failed so far."""
        return bool(self._bad)

    def good(self, key: str, ref: SetRef, metadata: Mapping[str, Any]) -> None:
        """``key`` has the committed set ``ref``; show ``metadata`` with it.

        A key that was removed meanwhile gets no pointer: it would come to life again.
        """
        if not self._registered(key):
            self._context.log.info(f"{key}: removed while it was made; its set is left to store gc")
            return
        self._good[key] = (ref, rounded(metadata))
        self._sets.publish(ref)
        if len(self._keys) > 1:
            self._context.log_event(
                dg.AssetMaterialization(self._asset, partition=key, metadata=self._good[key][1])
            )

    def check(self, name: str, key: str, fault: str | None, **figures: float) -> None:
        """Report a check of ``key`` at once, so that it stands whatever becomes of others.

        Args:
            fault: what a person should know; None if all is well.
            figures: what was measured.
        """
        if name not in self._checks:  # not selected in this run
            return
        self._checks[name][key] = fault
        if len(self._keys) == 1:
            return  # its step has one result, which is that key's
        metadata: dict[str, Any] = {k: v for k, v in rounded(figures).items() if v == v}
        if fault:
            metadata["fault"] = fault
        self._report(name, fault is None, metadata, key)

    def _report(
        self, name: str, passed: bool, metadata: Mapping[str, Any], key: str | None
    ) -> None:
        self._context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=self._asset,
                check_name=name,
                passed=passed,
                metadata=metadata,
                severity=dg.AssetCheckSeverity.WARN,
                partition=key,
            )
        )

    def _summaries(self) -> dict[str, dict[str, Any]]:
        """Of each check, what is said of the keys of this step together."""
        return {
            name: {
                "faults": dg.MetadataValue.json({k: f for k, f in found.items() if f}),
                "checked": len(found),
            }
            for name, found in self._checks.items()
        }

    def plan(
        self,
        planner: Callable[[str, Inputs], SetRef | None],
        inputs: Mapping[str, Mapping[str, CommittedSet]],
        shown: Callable[[CommittedSet], Mapping[str, Any]],
    ) -> dict[str, SetRef]:
        """The sets that are to be made, by key; what is committed already is good, what cannot be planned is bad.

        Args:
            planner: as ``plans.Planner``.
            inputs: the sets that the asset reads, by asset and then by key.
            shown: the metadata of a committed set.
        """
        todo: dict[str, SetRef] = {}
        for key in self._keys:
            mine = {asset: found[key] for asset, found in inputs.items() if key in found}
            with self.failing_alone(key):
                try:
                    ref = planner(key, mine)
                except NotPlanned as error:
                    self.bad(key, str(error))
                    continue
                if ref is None:
                    continue
                if (committed := self._sets.find(ref)) is not None:
                    self._context.log.info(f"{key}: found committed")
                    self.good(key, ref, shown(committed))
                else:
                    todo[key] = ref
        return todo

    def bad(self, key: str, reason: str) -> None:
        """``key`` failed; the others go on. The reason names the key, as error texts name files."""
        self._bad[key] = reason if reason.startswith(key) else f"{key}: {reason}"
        if self._registered(key):  # so that the partition's own page says why
            self._context.log_event(
                dg.AssetObservation(self._asset, partition=key, metadata={FAILED: self._bad[key]})
            )

    @contextmanager
    def failing_alone(self, key: str) -> Iterator[None]:
        """Let what goes wrong inside fail ``key`` and nobody else: its sets may be damaged, or hold what they should not.

        Trouble of the store as a whole, such as a full disk, still ends the step.
        """
        try:
            yield
        except DamagedObject as error:
            self.bad(key, str(error))
        except (dg.Failure, StoreError):
            raise
        except Exception as error:
            self._context.log.error(traceback.format_exc())
            self.bad(
                key,
                f"{key}: {type(error).__name__}: {error} (what it is made from may be damaged: posefactory store verify; "
                "if that finds nothing, please report it)",
            )

    def _registered(self, key: str) -> bool:
        return self._context.instance.has_dynamic_partition(self._partition_set, key)

    def close(self) -> dg.MaterializeResult[dict[str, SetRef]]:
        """The references of all keys, for the IO manager.

        Raises:
            dagster.Failure: some keys failed; all of them are named with their reasons.
        """
        summaries = self._summaries()
        passed = {name: not any(found.values()) for name, found in self._checks.items()}
        if self._bad:
            for name, metadata in summaries.items():
                self._report(
                    name, passed[name], metadata, self._keys[0] if len(self._keys) == 1 else None
                )
            reasons = "\n".join(f"- {reason}" for reason in self._bad.values())
            raise dg.Failure(
                description=f"{len(self._bad)} of {len(self._keys)} keys failed:\n{reasons}",
                metadata={FAILED_KEYS: dg.MetadataValue.json(self._bad)},
                allow_retries=False,
            )
        for key, (_, metadata) in self._good.items():
            self._context.add_asset_metadata(metadata, partition_key=key)
        alone = (
            next(iter(self._good.values()))[0] if len(self._keys) == len(self._good) == 1 else None
        )
        return dg.MaterializeResult(
            value={key: ref for key, (ref, _) in self._good.items()},
            # Dagster has one data version for all keys of a step, so only one alone has its own.
            data_version=dg.DataVersion(alone.identity) if alone else None,
            check_results=[
                dg.AssetCheckResult(
                    check_name=name,
                    passed=passed[name],
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata=metadata,
                )
                for name, metadata in summaries.items()
            ],
        )


def published(
    sets: CommittedSets,
    ref: SetRef,
    metadata: Mapping[str, Any],
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult[dict[str, SetRef]]:
    """What an asset without partitions returns: readers are pointed to its set, whose identity is its data version."""
    sets.publish(ref)
    return dg.MaterializeResult(
        value={layout.UNPARTITIONED: ref},
        metadata=metadata,
        data_version=dg.DataVersion(ref.identity),
        check_results=checks,
    )


def last_metadata(instance: dg.DagsterInstance, asset: str, name: str) -> Any:
    """What the last materialization of an asset without partitions said under a name; None if it said nothing."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        return None
    found = event.asset_materialization.metadata.get(name)
    return None if found is None else found.value


def forget_failures(instance: dg.DagsterInstance, keys: Iterable[str]) -> None:
    """Of keys that are removed, no failure stands any more: another file may get the same key."""
    for asset, reasons in standing_failures(instance, keys).items():
        for key in reasons:
            instance.report_runless_asset_event(
                dg.AssetObservation(dg.AssetKey(asset), partition=key, metadata={FAILED: ""})
            )


def standing_failures(
    instance: dg.DagsterInstance, keys: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Why the last try to make a key failed, for those of which it did: reasons by asset, then by key."""
    wanted = set(keys)
    reasons: dict[str, dict[str, str]] = {}
    for asset in instance.all_asset_keys():
        said: dict[str, dg.EventLogRecord] = {}
        for record in _newest(instance.fetch_observations, asset, sorted(wanted)):
            observed = record.asset_observation
            if observed is not None and FAILED in observed.metadata and record.partition_key:
                said.setdefault(record.partition_key, record)
        for key, record in said.items():
            made = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[key]), limit=1
            ).records
            if not made or made[0].storage_id < record.storage_id:
                assert record.asset_observation is not None
                if why := str(record.asset_observation.metadata[FAILED].value):
                    reasons.setdefault(asset.to_user_string(), {})[key] = why
    return reasons


def _newest(
    fetch: Callable[..., dg.EventRecordsResult], asset: dg.AssetKey, keys: list[str]
) -> Iterator[dg.EventLogRecord]:
    """Events of an asset's partitions, newest first, page by page."""
    cursor = None
    while keys:
        page = fetch(
            dg.AssetRecordsFilter(asset_key=asset, asset_partitions=keys), limit=1000, cursor=cursor
        )
        yield from page.records
        if not page.has_more:
            return
        cursor = page.cursor
