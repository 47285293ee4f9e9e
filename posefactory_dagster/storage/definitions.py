"""The resources by which assets reach the store."""

import dagster as dg

from posefactory_dagster.storage.io_manager import CommittedSetIOManager, StoreResource

# Set in the launchpad or here, the address holds for the assets and for the IO manager alike.
store = StoreResource.configure_at_launch()
defs = dg.Definitions(resources={"store": store, "io_manager": CommittedSetIOManager(store=store)})
