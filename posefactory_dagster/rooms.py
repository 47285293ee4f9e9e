"""The rooms of the house: one line each. A room is a package; what it brings is found by the names of its modules.

`definitions.py` holds ``defs`` (assets, sensors, jobs, resources) and, where there are any, ``PLANNERS``, ``PREPARATIONS``,
``CHECKS``, ``BEFORE_RUNS`` and ``HINTS``: see ``pipeline.jobs.House``. `cli.py` holds ``add_verbs(app)`` and perhaps ``SUMMARIES``;
`documents.py`, what the room says to others, perhaps ``FACTS`` (the model of its sets' facts, by asset) and ``REVIEWED`` (the
records that people review, by kind), and `validation.py` ``FAULTS`` (what `store verify` asks of its sets beyond that, by asset);
`migration.py` holds ``migrate(instance, open_sets)``, which brings what earlier versions left into today's form.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType

ROOMS = [
    "posefactory_dagster.storage",
    "posefactory_dagster.pipeline",
    "posefactory_dagster.compute",
    "posefactory_dagster.people",
    "posefactory_dagster.characters",
    "posefactory_dagster.motions",
    "posefactory_dagster.groups",
    "posefactory_dagster.renders",
    "posefactory_dagster.labels",
    "posefactory_dagster.variants",
    "posefactory_dagster.datasets",
    "posefactory_dagster.audits",
    "posefactory_dagster.costs",
]


def modules(name: str) -> Iterator[ModuleType]:
    """The module ``name`` of each room that has one."""
    for room in ROOMS:
        if importlib.util.find_spec(f"{room}.{name}") is not None:
            yield importlib.import_module(f"{room}.{name}")
