"""From an image back to where it came from: dataset, variant, render, character, upload."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blender_scripts.contract import TRUTH_DOCUMENT
from posefactory_dagster.characters.documents import facts_of
from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.review.approval import as_locked, read_decisions, read_lock, state_of
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, file_sha256
from posefactory_dagster.variants.documents import ASSET as VARIANTS
from posefactory_dagster.variants.documents import LEAST_LETTERS, RECORDS, Variant, read_variants


class Untraceable(ValueError):
    """Nothing is known of an image; the text says what was looked for."""


def trace(sets: CommittedSets, image: str) -> list[dict[str, Any]]:
    """The chain behind an image, from it to the FBX; each link says what it is in ``link``.

    Args:
        image: a file (known by its content), the number of a variant or its beginning, or a file name of a dataset.

    Raises:
        Untraceable: no set holds it.
    """
    path = Path(image)
    sha256 = file_sha256(path) if path.is_file() else None
    chain: list[dict[str, Any]] = []
    dataset, name = _in_datasets(sets, sha256, path.name)
    if dataset is not None:
        chain.append(
            {
                "link": "dataset",
                "version": dataset.ref.identity,
                "made": dataset.created_at,
                "file": name,
            }
        )
    variant = _variant(sets, dataset, name, sha256, image)
    if variant is not None:
        chain.append(_variant_link(sets, variant))
        ref, file = SetRef(*variant.source.set), variant.source.file
        chain += _render_links(sets, ref, file)
        return chain
    render = _render(sets, dataset, name, sha256)
    if render is None:
        raise Untraceable(
            f"{image}: no dataset, variant or render of this store; give a file, a variant's number, or a name in a dataset"
        )
    return chain + _render_links(sets, *render)


def _in_datasets(
    sets: CommittedSets, sha256: str | None, name: str
) -> tuple[CommittedSet | None, str]:
    """The newest dataset that holds the image, and its name there."""
    current = sets.readable(DATASET, layout.UNPARTITIONED)
    for dataset in [*([current] if current else []), *sets.of_asset(DATASET)]:
        for file, entry in dataset.files.items():
            if not file.startswith("images/"):
                continue
            if entry["sha256"] == sha256 or (sha256 is None and Path(file).name == name):
                return dataset, file
    return None, name


def _variant(
    sets: CommittedSets, dataset: CommittedSet | None, name: str, sha256: str | None, text: str
) -> Variant | None:
    if dataset is not None and RECORDS in dataset.files:
        record = json.loads(dataset.path(RECORDS).read_text("utf-8")).get(name)
        if record is not None:
            return Variant.model_validate(record)
    found: dict[str, Variant] = {}
    for variant in _all_variants(sets):
        by_image = sha256 is not None and any(
            a.image and a.image.sha256 == sha256 for a in variant.attempts
        )
        if by_image or (len(text) >= LEAST_LETTERS and variant.variant.startswith(text)):
            found.setdefault(variant.variant, variant)
    if len(found) > 1:
        raise Untraceable(f"{text}: {len(found)} variants begin so; give more of it")
    for variant in found.values():  # what was locked is what counts
        return as_locked(variant, read_lock(sets.store, Variant, variant.subject, variant.id))
    return None


def _all_variants(sets: CommittedSets) -> Iterator[Variant]:
    """Newest sets first."""
    for committed in sets.of_asset(VARIANTS):
        yield from read_variants(committed)


def _variant_link(sets: CommittedSets, variant: Variant) -> dict[str, Any]:
    lock = read_lock(sets.store, Variant, variant.subject, variant.id)
    decision = read_decisions(sets.store).of(variant)
    return {
        "link": "variant",
        "variant": variant.variant,
        "state": state_of(variant, lock, decision),
        "style": variant.style_name,
        "enhancer": variant.enhancer,
        "style_content": variant.style,
        "attempts": [
            {
                "number": a.number,
                "parameters": a.parameters.model_dump(),
                "seed": a.seed,
                "correction": a.correction,
                "severity": a.verdict and a.verdict.severity,
                "reasons": [r.text for r in a.verdict.reasons] if a.verdict else [],
                "error": a.error,
                "cost_usd": a.cost_usd,
                "sha256": a.image.sha256 if a.image else None,
                "answer": a.answer,
            }
            for a in variant.attempts
        ],
        "kept": variant.kept,
        "cost_usd": variant.cost_usd,
        "approved_by": lock.approved_by if lock else None,
        "approved_at": lock.approved_at.isoformat() if lock else None,
        "reason": lock.reason if lock else None,
        "decision": decision.model_dump(mode="json") if decision else None,
    }


def _render(
    sets: CommittedSets, dataset: CommittedSet | None, name: str, sha256: str | None
) -> tuple[SetRef, str] | None:
    if dataset is not None:
        sha256 = dataset.files[name]["sha256"]
    if sha256 is None:
        return None
    for committed in sets.of_asset(RENDERS):
        for file, entry in committed.files.items():
            if file.startswith("images/") and entry["sha256"] == sha256:
                return committed.ref, file.removeprefix("images/")
    return None


def _render_links(sets: CommittedSets, ref: SetRef, file: str) -> list[dict[str, Any]]:
    renders = sets.find(ref)
    if renders is None:
        return [
            {
                "link": "render",
                "set": [ref.asset, ref.partition, ref.identity],
                "file": file,
                "gone": True,
            }
        ]
    document = json.loads(renders.path(TRUTH_DOCUMENT).read_text("utf-8"))
    image: dict[str, Any] = next((i for i in document["images"] if i["file"] == file), {})
    links: list[dict[str, Any]] = [
        {
            "link": "render",
            "set": [ref.asset, ref.partition, ref.identity],
            "file": file,
            "sha256": renders.files[f"images/{file}"]["sha256"],
            "frame": image.get("frame"),
            "view": image.get("view"),
            "settings": dict(renders.settings),
            "made": renders.created_at,
        }
    ]
    for source in renders.inputs["sets"]:
        character = sets.find(SetRef(*source))
        if character is None:
            links.append({"link": "character", "set": list(source), "gone": True})
            continue
        links.append(
            {
                "link": "character",
                "set": list(source),
                "height_m": facts_of(character).height_m,
                "made": character.created_at,
            }
        )
        uploads = {
            k: v for k, v in character.inputs.items() if isinstance(v, dict) and "sha256" in v
        }
        links += [{"link": "upload", "role": role, **upload} for role, upload in uploads.items()]
    return links
