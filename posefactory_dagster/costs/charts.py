"""Pictures of prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from posefactory_dagster.compute.runpod.api import GpuType

STOCK_COLOURS = {"NONE": "#cccccc", "LOW": "#e0a030", "MEDIUM": "#7fb069", "HIGH": "#2f7d4f"}


def draw_prices(gpus: Sequence[GpuType], target: Path) -> None:
    """A bar for each GPU type: its price on secure cloud, coloured by stock."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = [g for g in gpus if g.secure]
    figure = Figure(figsize=(8, 0.8 + 0.28 * max(len(shown), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.barh(
        [f"{g.name}, {g.memory} GB" for g in shown],
        [g.price.secure for g in shown],
        color=[STOCK_COLOURS[g.availability] for g in shown],
    )
    axes.invert_yaxis()
    axes.set_xlabel("US dollars an hour, secure cloud")
    handles = [Patch(color=c, label=n.lower()) for n, c in STOCK_COLOURS.items()]
    figure.legend(handles=handles, title="stock", loc="outside right upper")
    figure.savefig(target, dpi=90)


def draw_spending(groups: pd.DataFrame, target: Path) -> None:
    """Two bars a day, estimate and actual, stacked by provider and style.

    Args:
        groups: columns day, provider, style, estimate_usd, cost_usd.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    days = sorted(groups["day"].unique())
    names = sorted({f"{g.provider} {g.style}".strip() for g in groups.itertuples()})
    for side, column, hatch in ((-0.2, "estimate_usd", "//"), (0.2, "cost_usd", "")):
        bottom = np.zeros(len(days))
        for number, name in enumerate(names):
            mine = groups[(groups["provider"] + " " + groups["style"]).str.strip() == name]
            heights = mine.set_index("day")[column].reindex(days).fillna(0).to_numpy()
            word = "estimate" if hatch else "paid"
            axes.bar(
                np.arange(len(days)) + side, heights, 0.36, bottom=bottom, hatch=hatch,
                color=f"C{number}", alpha=0.5 if hatch else 1.0, label=f"{name}, {word}",
            )  # fmt: skip
            bottom += heights
    axes.set_xticks(range(len(days)), days, rotation=45, ha="right")
    axes.set_ylabel("US dollars")
    if names:
        figure.legend(loc="outside right upper", fontsize=8)
    else:
        axes.set_title("nothing was spent")
    figure.savefig(target, dpi=90)
