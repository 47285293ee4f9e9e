"""Carries committed sets between assets: references out, lazily opened sets in."""

import dagster as dg
from pydantic import Field

from posefactory_dagster.storage import layout
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef


class StoreResource(dg.ConfigurableResource):
    """Where sets are kept."""

    address: str = Field(
        default="", description="A folder, or r2://bucket/prefix; empty: POSEFACTORY_STORE says it."
    )

    def sets(self) -> CommittedSets:
        """The sets of this store; the address falls back to POSEFACTORY_STORE."""
        return CommittedSets(open_store(self.address))


class CommittedSetIOManager(dg.ConfigurableIOManager):
    """Values between assets are committed sets, by partition key.

    An asset returns ``dict[partition, SetRef]`` (an unpartitioned one under the key ``all``) of sets that readers were
    pointed to by ``pipeline.partitions``; the manager checks that each is committed. A downstream asset gets
    ``dict[partition, CommittedSet]`` of those partitions that have one; images are opened only when
    a path is asked for.
    """

    store: dg.ResourceDependency[StoreResource]

    def handle_output(self, context: dg.OutputContext, obj: dict[str, SetRef]) -> None:
        sets = self.store.sets()
        for partition, ref in obj.items():
            if sets.find(ref) is None:
                raise dg.DagsterInvariantViolationError(f"{partition}: {ref} is not committed")

    def load_input(self, context: dg.InputContext) -> dict[str, CommittedSet]:
        sets = self.store.sets()
        asset = context.asset_key.to_python_identifier()
        keys = (
            context.asset_partition_keys if context.has_asset_partitions else [layout.UNPARTITIONED]
        )
        found = {key: sets.readable(asset, key) for key in keys}
        return {key: committed for key, committed in found.items() if committed is not None}
