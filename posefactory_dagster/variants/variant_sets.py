"""The files of a set of variants: records, gate figures, preview and review page; and its planner."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from posefactory_dagster.pictures import font, small_picture
from posefactory_dagster.pipeline.plans import Inputs, required
from posefactory_dagster.quality.gate import GATE_VERSION
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.review import page as review_page
from posefactory_dagster.review.approval import as_locked, locks_of, settle, write_decisions
from posefactory_dagster.review.documents import Decision
from posefactory_dagster.settings import GateSettings, VariantSettings
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.batch import (
    GATE_DISAGREES,
    NOT_JUDGEABLE,
    settings_identity,
    states,
)
from posefactory_dagster.variants.documents import (
    ASSET,
    RECORDS,
    PoseMeasurement,
    Style,
    Variant,
    VariantFacts,
    read_variants,
)
from posefactory_dagster.variants.render_views import RenderViews

VERSION = 1
GATE_TABLE, STRIP, PAGE = "gate.parquet", "strip.jpg", "review.html"
STRIP_CELL, STRIP_COLUMNS = 208, 4
#: How those that stay out are marked.
BLOCKED_COLOUR = (200, 40, 30)


def identity(
    renders: CommittedSet,
    styles: Sequence[Style],
    enhancers: Mapping[str, Mapping[str, str]],
    model_sha256: str,
    settings: VariantSettings,
    gate_values: GateSettings,
) -> str:
    """What a set of variants is made from: the renders, the styles and who makes them, and how they are judged."""
    return identity_of(
        ASSET,
        {"renders": renders.ref.identity, "model": model_sha256},
        {
            "version": VERSION,
            "gate_version": GATE_VERSION,
            "styles": [{**s.content, "name": s.name, "count": s.count} for s in styles],
            "enhancers": {name: dict(e) for name, e in enhancers.items()},
            "gate": dataclasses.asdict(gate_values),
            **settings_identity(settings),
        },
    )


@dataclass(frozen=True)
class VariantPlanner:
    """Plans `enhanced_variants`: renders, styles and who makes them, and how images are judged.

    ``enhancers``: provider, model and version by style name; ``model_sha256``: of MediaPipe's model.
    """

    styles: Sequence[Style]
    enhancers: Mapping[str, Mapping[str, str]]
    model_sha256: str
    settings: VariantSettings
    gate: GateSettings
    asset: str = ASSET

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        renders = required(key, inputs, RENDERS, "rendered")
        made_from = renders, self.styles, self.enhancers, self.model_sha256
        return SetRef(ASSET, key, identity(*made_from, self.settings, self.gate))


def current_sets(sets: CommittedSets, characters: Sequence[str] = ()) -> Iterator[CommittedSet]:
    """The present set of each character that has one, or of those named."""
    names = [layout.parse_current(i.key) for i in sets.store.list(layout.current_prefix(ASSET))]
    for character in sorted(name[1] for name in names if name):
        if characters and character not in characters:
            continue
        committed = sets.readable(ASSET, character)
        if committed is not None:
            yield committed


def index(
    sets: CommittedSets, characters: Sequence[str] = ()
) -> dict[tuple[str, str, str], Variant]:
    """The variants of the present sets as they stand, by their places."""
    found = {}
    for committed in current_sets(sets, characters):
        locks = locks_of(sets.store, Variant, committed.ref.partition)
        for variant in read_variants(committed):
            found[variant.place] = as_locked(variant, locks.get(variant.variant))
    return found


def take(
    sets: CommittedSets, decisions: Sequence[Decision]
) -> tuple[list[Decision], list[str], str | None]:
    """Keep decisions that can be followed, and lock what they approve.

    Returns:
        Those that were taken, why others were not, and the key of the file that holds them.
    """
    variants = index(sets, sorted({d.subject for d in decisions}))
    faults = list(settle(sets.store, decisions, variants))
    refused = [decision for decision, _ in faults]
    taken = [d for d in decisions if d not in refused]
    key = write_decisions(sets.store, taken) if taken else None
    return taken, [text for _, text in faults], key


def write(
    folder: Path, store: Store, render_views: RenderViews, variants: Sequence[Variant]
) -> VariantFacts:
    """Write a set's files under ``folder`` and return its numbers."""
    records = [v.model_dump(mode="json") for v in variants]
    (folder / RECORDS).write_text(json.dumps(records), "utf-8")
    table(variants).to_parquet(folder / GATE_TABLE, index=False)
    images = {v.image.key: v.image.sha256 for v in variants if v.image is not None}
    paths: dict[str, Path] = store.local_paths(dict(images))
    _strip(render_views, variants, paths).save(folder / STRIP, quality=85)
    (folder / PAGE).write_text(page(render_views, variants, paths), "utf-8")
    return figures(variants)


def page(render_views: RenderViews, variants: Sequence[Variant], paths: Mapping[str, Path]) -> str:
    """The review page of a character's variants.

    Args:
        paths: where the variants' images are, by object key.
    """
    names = [i.file for i in render_views.truth.images]
    entries = []
    for v in variants:
        place = names.index(v.source.file)
        truth = render_views.truth.arrays["pixels"][place] / render_views.truth.size_of(place)
        raw = v.verdict.raw if v.verdict else None
        enhanced = v.verdict.enhanced if v.verdict else None
        attempts = [
            review_page.Attempt(
                a.number, a.verdict.severity if a.verdict else a.error, a.correction, a.seed
            )
            for a in v.attempts
        ]
        entries.append(
            review_page.Entry(
                item=v,
                title=f"{v.source.file} · {v.style_name}",
                source=v.source.file,
                picture=paths[v.image.key] if v.image else None,
                flags=v.flags,
                reasons=v.reasons,
                attempts=attempts,
                truth=truth.round(4).tolist(),
                source_pose=raw.landmarks if raw else None,
                pose=enhanced.landmarks if enhanced else None,
            )
        )
    files = {v.source.file: render_views.paths[f"images/{v.source.file}"] for v in variants}
    return review_page.page(entries, files)


def figures(variants: Sequence[Variant]) -> VariantFacts:
    """Summarize a set of variants."""
    severities: dict[str, int] = {}
    for v in variants:
        word = v.verdict.severity if v.verdict else "not made"
        severities[word] = severities.get(word, 0) + 1
    return VariantFacts(
        variants=len(variants),
        states=states(variants),
        severities=severities,
        not_judgeable=sum(NOT_JUDGEABLE in v.flags for v in variants),
        gate_disagrees=sum(GATE_DISAGREES in v.flags for v in variants),
        attempts=sum(len(v.attempts) for v in variants),
        styles=sorted({v.style_name for v in variants}),
        cost_usd=round(sum(v.cost_usd for v in variants), 6),
    )


def table(variants: Sequence[Variant]) -> pd.DataFrame:
    """A row per attempt: what was tried, and what the gate measured."""
    rows = []
    for v in variants:
        for a in v.attempts:
            verdict = a.verdict
            enhanced = (verdict and verdict.enhanced) or PoseMeasurement(people=None)
            raw = (verdict and verdict.raw) or PoseMeasurement(people=None)
            rows.append(
                {
                    "variant": v.variant, "file": v.source.file, "view": v.source.view, "style": v.style_name,
                    "provider": v.enhancer["provider"], "attempt": a.number, "kept": a.number == v.kept,
                    "state": v.state, "severity": verdict and verdict.severity, "judgeable": verdict and verdict.judgeable,
                    "reasons": ", ".join(r.code for r in verdict.reasons) if verdict else "",
                    "strength": a.parameters.strength, "control": a.parameters.control, "seed": a.seed,
                    "oks_raw": raw.oks, "oks": enhanced.oks, "pck": enhanced.pck,
                    "agreement": verdict and verdict.agreement, "moved": verdict and verdict.moved,
                    "iou_raw": raw.iou, "iou": enhanced.iou, "people": enhanced.people,
                    "seconds": a.seconds, "cost_usd": a.cost_usd,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _strip(
    render_views: RenderViews, variants: Sequence[Variant], paths: Mapping[str, Path]
) -> Image.Image:
    """Renders above, what was made of them below."""
    shown = [v for v in variants if v.image is not None]
    chosen = np.unique(np.linspace(0, len(shown) - 1, min(len(shown), STRIP_COLUMNS)).round())
    strip = Image.new("RGB", (STRIP_CELL * max(len(chosen), 1), STRIP_CELL * 2), "white")
    for column, index in enumerate(chosen.astype(int)):
        variant = shown[index]
        assert variant.image is not None
        pair = (render_views.paths[f"images/{variant.source.file}"], paths[variant.image.key])
        for row, path in enumerate(pair):
            # What a provider sent need not be an image; the gate has said so.
            if (image := small_picture(path.read_bytes(), STRIP_CELL)) is not None:
                strip.paste(image, (column * STRIP_CELL, row * STRIP_CELL))
        if variant.state in ("blocked", "failed"):
            draw = ImageDraw.Draw(strip)
            left, right = column * STRIP_CELL, (column + 1) * STRIP_CELL - 1
            box = (left, STRIP_CELL, right, 2 * STRIP_CELL - 1)
            draw.rectangle(box, outline=BLOCKED_COLOUR, width=4)
            draw.rectangle((left, STRIP_CELL, left + 74, STRIP_CELL + 22), fill=BLOCKED_COLOUR)
            draw.text((left + 8, STRIP_CELL + 2), variant.state, "white", font(15))
    return strip
