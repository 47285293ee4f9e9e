"""What is in a dataset and how well MediaPipe does on it, by view, body, pose and place: the card's plots and its table of biases."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from posefactory_dagster.datasets.variety import AXES, LEAST_SHARE, UNKNOWN

#: Axes of the table, with the look besides.
_TITLES = {a.column: a.title for a in AXES} | {"look": "look"}
#: Values of an axis that are shown: the most frequent, where there are more.
MOST_VALUES = 12
#: Room for so many values in every plot.
LEAST_LINES = 6


def biases(people: pd.DataFrame) -> pd.DataFrame:
    """Of each value of each axis: axis, value, how many ``people`` have it, their ``share``, and of these ``detected`` and ``pck`` (mean PCK@0.2 of MediaPipe).

    Args:
        people: as from ``variety.read_people``. An axis of which nothing is known is left out, and so are values that nobody has.
    """
    tables = []
    for column, title in _TITLES.items():
        if (people[column] == UNKNOWN).mean() > 1 - LEAST_SHARE:
            continue
        order = next((list(a.values) for a in AXES if a.column == column), None)
        found = people.groupby(column).agg(people=("detected", "size"), detected=("detected", "mean"), pck=("pck", "mean"))  # fmt: skip
        found["share"] = found["people"] / len(people)
        if order is None:
            found = found.sort_values("people", ascending=False).head(MOST_VALUES)
        else:
            found = found.reindex([v for v in (*order, UNKNOWN) if v in found.index])
        tables.append(found.rename_axis("value").reset_index().assign(axis=title))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def draw_statistics(people: pd.DataFrame, target: Path) -> None:
    """Two bars for each value of each axis: the share of people that have it, and MediaPipe's PCK@0.2 on these."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = biases(people)
    groups = list(found.groupby("axis", sort=False)) if len(found) else []
    columns, lines = 3, max(1, -(-len(groups) // 3))
    figure = Figure(figsize=(15, 0.6 + 2.7 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{len(people)} people in renders: their share (blue), and MediaPipe's PCK@0.2 on them (orange)", fontsize=12)  # fmt: skip
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.axis("off")
    for axes, (title, rows) in zip(grid.flat, groups, strict=False):
        for offset, column, colour, form in ((-0.2, "share", "#2f6f9f", "{:.0%}"), (0.2, "pck", "#e07b27", "{:.2f}")):  # fmt: skip
            places = [n + offset for n in range(len(rows))]
            bars = axes.barh(places, rows[column].fillna(0), height=0.38, color=colour)
            axes.bar_label(bars, [form.format(v) if v == v else "-" for v in rows[column]], fontsize=7, padding=2)  # fmt: skip
        names = [v if len(v) < 34 else f"{v[:32]}…" for v in rows["value"]]
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([])
        # Bars are equally thick, however few there are.
        axes.set_ylim(max(len(rows), LEAST_LINES) - 0.5, -0.5)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_title(title, fontsize=10, loc="left")
    figure.savefig(target, dpi=100)
