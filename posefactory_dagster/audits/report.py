"""An audit's page: a chart and a table for each attribute, and the worst images of each model; one file, without a server."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.audits.measuring import FIGURES, image_path, worst
from posefactory_dagster.pictures import font
from posefactory_dagster.quality.landmarker import SKELETON
from posefactory_dagster.renders.documents import read_truth
from posefactory_dagster.storage.sets import CommittedSet

#: Worst images of each model, and how large they are shown.
WORST, CELL = 12, 320
_COLOURS = ("#2f6f9f", "#e07b27", "#2f7d4f", "#8a4fa3", "#b3382c", "#555555")
_LIMBS = [(COCO_KEYPOINTS.index(a), COCO_KEYPOINTS.index(b)) for a, b in SKELETON if a in COCO_KEYPOINTS and b in COCO_KEYPOINTS]  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; } body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1rem; }
img { max-width: 100%; height: auto; background: #fff; } table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; border-bottom: 1px solid #8884; } td.n { font-variant-numeric: tabular-nums; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; } figure { margin: 0; } figcaption { font-size: .85rem; }
.scroll { overflow-x: auto; }
"""


def write(folder: Path, figures: Mapping[str, pd.DataFrame], rows: Mapping[str, pd.DataFrame], controlled: Sequence[CommittedSet]) -> Path:  # fmt: skip
    """Write ``audit.html``, ``audit.png`` and ``figures.csv``.

    Args:
        figures: of each model, see ``measuring.by_attribute``. rows: of each model, see ``measuring.measure``.

    Returns:
        The page.
    """
    table = pd.concat([f.assign(model=m) for m, f in figures.items()], ignore_index=True)
    table.to_csv(folder / "figures.csv", index=False)
    draw(table, folder / "audit.png")
    parts = [
        f"<h1>Audit of {html.escape(', '.join(figures))}</h1>",
        "<p>The same people in the same motions; of each attribute one value differs, all else stays. Points are means over people in images, bars the 95 % interval of a bootstrap over them; "
        "few people are behind them, so what holds for these bodies need not hold for all. Who is not found counts as 0. OKS and PCK@0.2 are over COCO's 17 keypoints that are in the frame, hidden "
        "ones included. Networks that look at one person at a time were given the true boxes.</p>",
        _picture(folder / "audit.png", "PCK@0.2 by attribute"),
    ]  # fmt: skip
    for title, mine in table.groupby("attribute", sort=False):
        parts.append(f"<h2>{html.escape(str(title))}</h2>{_table(mine)}")
    for model, mine in rows.items():
        parts.append(f"<h2>Worst images of {html.escape(model)}</h2><p>Of each look the person whom it misses most, first where it does well otherwise; of people of whom at least half of the keypoints are seen. Green is the truth, magenta the model.</p><div class=grid>")  # fmt: skip
        for row in worst(mine, WORST).to_dict("records"):
            said = f"{row['look']}, {row['view']}, {row['character']}: OKS {row['oks']:.2f}" + ("" if row["detected"] else ", not found")  # fmt: skip
            parts.append(f"<figure>{_overlay(controlled, row)}<figcaption>{html.escape(said)}</figcaption></figure>")  # fmt: skip
        parts.append("</div>")
    page = folder / "audit.html"
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><title>Audit</title>'  # fmt: skip
    page.write_text(f"{head}<style>{_STYLE}</style><main>{''.join(parts)}</main></html>", "utf-8")
    return page


def draw(table: pd.DataFrame, target: Path) -> None:
    """A chart for each attribute: PCK@0.2 of each model by value, with intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(table.groupby("attribute", sort=False))
    columns = 3
    lines = -(-len(groups) // columns)
    models = list(dict.fromkeys(table["model"]))
    figure = Figure(figsize=(15, 0.6 + 2.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.axis("off")
    for axes, (title, mine) in zip(grid.flat, groups, strict=False):
        values = list(dict.fromkeys(mine["value"]))
        for number, model in enumerate(models):
            one = mine[mine["model"] == model].set_index("value").reindex(values)
            offset = (number - (len(models) - 1) / 2) * 0.18
            errors = np.abs(np.stack([one["pck"] - one["pck_low"], one["pck_high"] - one["pck"]]))
            axes.errorbar(one["pck"], np.arange(len(values)) + offset, xerr=errors, fmt="o", markersize=4, capsize=2, color=_COLOURS[number % len(_COLOURS)], label=model)  # fmt: skip
        axes.set_yticks(range(len(values)), [v if len(v) < 28 else f"{v[:26]}…" for v in values], fontsize=8)  # fmt: skip
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(str(title), fontsize=10, loc="left")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=len(models), fontsize=9)  # fmt: skip
    figure.suptitle("PCK@0.2", x=0.01, ha="left", fontsize=12)
    figure.savefig(target, dpi=100)


def _table(mine: pd.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(t)}</th>" for t in ("", "model", "people", *FIGURES.values()))
    lines = []
    # All models of a value beside each other.
    places = {v: i for i, v in enumerate(dict.fromkeys(mine["value"]))}
    for row in mine.sort_values("value", key=lambda v: v.map(places), kind="stable").to_dict(
        "records"
    ):
        cells = [f"<td>{html.escape(str(row[k]))}</td>" for k in ("value", "model", "people")]
        cells += [f"<td class=n>{row[n]:.3f} ({row[f'{n}_low']:.2f} to {row[f'{n}_high']:.2f})</td>" for n in FIGURES]  # fmt: skip
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(lines)}</table></div>"


def _overlay(controlled: Sequence[CommittedSet], row: Mapping[Any, Any]) -> str:
    """An image with the true skeleton and the model's, as an element of a page."""
    committed = next(c for c in controlled if c.ref.partition == row["set"])
    truth = read_truth(committed)
    index = next(i for i, r in enumerate(truth.images) if r.file == row["file"])
    place = truth.rows_of(index)[row["person"]]
    with Image.open(image_path(controlled, row)) as opened:
        scale = CELL / max(opened.size)
        picture = opened.convert("RGB").resize((round(opened.width * scale), round(opened.height * scale)), Image.Resampling.LANCZOS)  # fmt: skip
    pen = ImageDraw.Draw(picture)
    coco = [LANDMARKS.index(n) for n in COCO_KEYPOINTS]
    true = truth.arrays["pixels"][place][coco]
    found = np.array(row["found"], float).reshape(-1, 3)[:, :2]
    for points, colour in ((true, (20, 150, 64)), (found, (220, 0, 160))):
        for a, b in _LIMBS if len(points) else []:
            pen.line([tuple(points[a] * scale), tuple(points[b] * scale)], fill=colour, width=2)
    if not len(found):
        pen.text((6, 6), "not found", fill=(220, 0, 160), font=font(16))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}" alt="">'  # fmt: skip


def _picture(path: Path, words: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(words)}">'
