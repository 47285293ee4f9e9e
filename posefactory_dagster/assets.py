"""All assets: a line for each. What follows of them, such as the way of a character, comes from their dependencies."""

import graphlib
from collections.abc import Sequence

import dagster as dg

from posefactory_dagster.characters.assets import character
from posefactory_dagster.costs.assets import gpu_prices, spending
from posefactory_dagster.datasets.assets import pose_dataset
from posefactory_dagster.labels.assets import label_accuracy, pose_labels
from posefactory_dagster.partitions import CHARACTERS
from posefactory_dagster.renders.assets import multi_angle_renders
from posefactory_dagster.variants.assets import enhanced_variants

ASSETS: list[dg.AssetsDefinition] = [
    character,
    multi_angle_renders,
    pose_labels,
    label_accuracy,
    enhanced_variants,
    pose_dataset,
    gpu_prices,
    spending,
]


def chain(assets: Sequence[dg.AssetsDefinition]) -> list[str]:
    """The assets that a character goes through, each after what it needs; among equals in the order of ``assets``."""
    mine = {a.key: a for a in assets if a.partitions_def == CHARACTERS}
    sorter = graphlib.TopologicalSorter(
        {key: [k for k in a.dependency_keys if k in mine] for key, a in mine.items()}
    )
    sorter.prepare()
    places = {key: place for place, key in enumerate(mine)}
    ready, order = list(sorter.get_ready()), []
    while ready:
        ready.sort(key=places.__getitem__)
        order.append(ready.pop(0))
        sorter.done(order[-1])
        ready += sorter.get_ready()
    return [key.to_user_string() for key in order]
