"""Pictures of prices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from posefactory_dagster.blender.runpod.api import GpuType

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
