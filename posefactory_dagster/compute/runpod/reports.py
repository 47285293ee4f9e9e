"""What a rented pod did and cost, and where that is said."""

import datetime
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from posefactory_dagster.budget.estimates import cost_of
from posefactory_dagster.compute.record import JobRecord
from posefactory_dagster.compute.runpod.api import GpuType, Pod

#: Tags of a run that say what its rented machines cost, in US dollars: those that rendered, and those that enhanced.
COST, ENHANCING_COST = "posefactory/cost_usd", "posefactory/variants_pods_usd"


@dataclass
class PodReport:
    """What a pod did and cost. ``seconds``: from its creation, or from its last payment, to its end. Costs in US dollars."""

    pod: Pod
    gpu: GpuType
    price: float
    estimate: float
    seconds: float = 0.0
    surplus: int = 0
    started_at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @property
    def cost(self) -> float:
        """Cost in US dollars: price times time."""
        return cost_of(self.seconds, self.price)

    def metadata(self) -> dict[str, Any]:
        """The report as Dagster metadata."""
        return {
            "pod": self.pod.id,
            "console": dg.MetadataValue.url(self.pod.console),
            "gpu": self.gpu.name,
            "usd_per_hour": self.price,
            "seconds": round(self.seconds, 1),
            "cost_usd": round(self.cost, 4),
            "estimate_usd": round(self.estimate, 4),
            "surplus_pods_ended": self.surplus,
        }


def tell_report(
    context: dg.AssetExecutionContext,
    record: JobRecord,
    metadata: dict[str, Any],
    cost_tag: str = COST,
    **entered: float,
) -> None:
    """Record what a rented machine did and cost: as an observation of the asset, in the job's record and in the run's tags.

    Args:
        entered: ``entered_usd`` and ``entered_estimate_usd``, see ``JobRecord``.
    """
    context.log_event(dg.AssetObservation(context.asset_key, metadata=metadata))
    plain = {k: getattr(v, "value", v) for k, v in metadata.items()}
    record.rented.append({**plain, **entered})
    which = {f"posefactory/{k}": str(metadata[k]) for k in ("pod", "endpoint") if k in metadata}
    spent = sum(r["cost_usd"] for r in record.rented)
    context.instance.add_run_tags(context.run.run_id, {**which, cost_tag: f"{spent:.4f}"})
