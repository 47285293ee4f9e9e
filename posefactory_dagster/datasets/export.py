"""Write the dataset: images, COCO files, one Parquet, contact sheet and card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import coco
from posefactory_dagster.datasets.admission import locked_images
from posefactory_dagster.datasets.splits import SPLITS
from posefactory_dagster.quality.records import RECORDS, Variant
from posefactory_dagster.slugs import split_key
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.storage.store import Store
from posefactory_dagster.truth import Truth, read_truth

COCO_FILES = {"person_keypoints_17.json": COCO_KEYPOINTS, "person_keypoints_33.json": LANDMARKS}
SHEET_CELL = 160
SHEET_COLUMNS = 8
SHEET_ROWS = 12


@dataclass(frozen=True)
class Member:
    """One character of a dataset: its three committed sets, all made from each other, and its locked variants."""

    key: str
    split: str
    renders: CommittedSet
    labels: CommittedSet
    accuracy: CommittedSet
    variants: tuple[Variant, ...] = ()


def export(
    members: list[Member], store: Store, folder: Path, tell: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write all files of a dataset under ``folder`` and return its numbers.

    ``images/`` and ``masks/`` hold ``<key>__f<frame>_<view>.png``, and beside the images
    ``<key>__f<frame>_<view>__<style>_<variant>.<ending>``; ``annotations/`` the COCO files, all and by split;
    ``landmarks.parquet`` truth and MediaPipe side by side, a row per image and landmark; ``variants.json`` how
    each variant was made and judged.

    Raises:
        StoreError: a file of a set, or a locked image, is not what it was.
    """
    for name in ("images", "masks", "annotations"):
        (folder / name).mkdir()
    documents: dict[str, dict[str, dict[str, Any]]] = {
        file: {split: _empty(keypoints) for split in ("all", *SPLITS)}
        for file, keypoints in COCO_FILES.items()
    }
    tables, image_id = [], 0
    for done, member in enumerate(members):
        truth = read_truth(member.renders)
        files = member.renders.paths(
            f"{kind}/{i['file']}" for i in truth.images for kind in ("images", "masks")
        )
        locked = locked_images(store, list(member.variants))
        by_file: dict[str, list[Variant]] = {}
        for variant in member.variants:
            by_file.setdefault(variant.source.file, []).append(variant)
        for index, record in enumerate(truth.images):
            render = f"{member.key}__{record['file']}"
            shutil.copyfile(files[f"images/{record['file']}"], folder / "images" / render)
            mask_path = files[f"masks/{record['file']}"]
            shutil.copyfile(mask_path, folder / "masks" / render)
            with Image.open(mask_path) as opened:
                mask = np.asarray(opened.convert("L")) > 127
            # A variant is another picture of the same scene, so all that is true of the render is true of it.
            pictures: list[tuple[str, dict[str, Any]]] = [(render, {})]
            for variant in by_file.get(record["file"], []):
                name = variant_name(member.key, variant)
                shutil.copyfile(locked[variant.variant], folder / "images" / name)
                origin = {
                    "variant": variant.variant,
                    "variant_of": f"images/{render}",
                    "style": variant.style_name,
                    "provider": variant.enhancer["provider"],
                }
                pictures.append((name, origin))
            for name, origin in pictures:
                image_id += 1
                image = {
                    "id": image_id,
                    "file_name": f"images/{name}",
                    "width": truth.document["settings"]["width"],
                    "height": truth.document["settings"]["height"],
                    "character": member.key,
                    "view": record["view"],
                    "frame": record["frame"],
                    "split": member.split,
                    "mask": f"masks/{render}",
                    **origin,
                    **{
                        matrix: truth.arrays[matrix][index].tolist()
                        for matrix in ("intrinsics", "rotation", "translation")
                    },
                }
                for file, keypoints in COCO_FILES.items():
                    annotation = coco.annotation(
                        image_id,
                        keypoints,
                        truth.arrays["pixels"][index],
                        truth.arrays["visibility"][index],
                        truth.arrays["bbox"][index],
                        mask,
                    )
                    for split in ("all", member.split):
                        documents[file][split]["images"].append(image)
                        documents[file][split]["annotations"].append(annotation)
        tables.append(_table(member, truth))
        if member.variants:
            tables.append(_variants_table(member, truth))
        tell(done + 1, len(members))
    for file, by_split in documents.items():
        for split, document in by_split.items():
            name = file if split == "all" else f"{split}_{file}"
            (folder / "annotations" / name).write_text(json.dumps(document), "utf-8")
    table = pd.concat(tables, ignore_index=True)
    table.to_parquet(folder / "landmarks.parquet", index=False)
    splits = {m.key: m.split for m in members}
    (folder / "splits.json").write_text(json.dumps(splits, indent=1), "utf-8")
    records = {
        f"images/{variant_name(m.key, v)}": v.model_dump(mode="json")
        for m in members
        for v in m.variants
    }
    (folder / RECORDS).write_text(json.dumps(records), "utf-8")
    _contact_sheet(members, folder, folder / "contact_sheet.jpg")
    figures = {
        "characters": len(members),
        "images": image_id,
        "variants": len(records),
        "labels": image_id * len(LANDMARKS),
        "splits": {s: sum(m.split == s for m in members) for s in SPLITS},
        **_agreement(members),
    }
    (folder / "README.md").write_text(_card(members, figures), "utf-8")
    return figures


def _empty(keypoints: tuple[str, ...]) -> dict[str, Any]:
    return {
        "info": {"description": "Pose Factory synthetic human poses", "version": "1"},
        "licenses": [],
        "images": [],
        "annotations": [],
        "categories": [coco.category(keypoints)],
    }


def _table(member: Member, truth: Truth) -> pd.DataFrame:
    """A row per image and landmark: the truth, and MediaPipe's values beside it."""
    count, width = len(truth.images), len(LANDMARKS)
    arrays = truth.arrays

    def repeated(name: str) -> np.ndarray:
        return np.repeat([i[name] for i in truth.images], width)

    columns: dict[str, Any] = {
        "character": member.key,
        "split": member.split,
        "file": np.repeat([f"images/{member.key}__{i['file']}" for i in truth.images], width),
        "variant": "",
        "style": "",
        "frame": repeated("frame"),
        "view": repeated("view"),
        "landmark": np.tile(np.arange(width), count),
        "name": np.tile(LANDMARKS, count),
        "origin": np.tile(arrays["origin"], count),
        "visibility": arrays["visibility"].ravel(),
        "x_px": arrays["pixels"][..., 0].ravel(),
        "y_px": arrays["pixels"][..., 1].ravel(),
        "depth_m": arrays["depth"].ravel(),
    }
    for frame in ("camera", "world"):
        for i, axis in enumerate("xyz"):
            columns[f"{frame}_{axis}_m"] = arrays[frame][..., i].ravel()
    table = pd.DataFrame(columns)
    labels = pd.read_parquet(member.labels.path("labels.parquet"))
    labels = labels[labels["detected"]].drop(columns=["frame", "view", "name", "detected"])
    labels["file"] = f"images/{member.key}__" + labels["file"]
    labels = labels.rename(
        columns={c: f"mediapipe_{c}" for c in labels.columns if c not in ("file", "landmark")}
    )
    return table.merge(labels, on=["file", "landmark"], how="left")


def variant_name(key: str, variant: Variant) -> str:
    """The file name of a variant in a dataset."""
    assert variant.image is not None
    ending = variant.image.key.rpartition(".")[2]
    stem = variant.source.file.removesuffix(".png")
    return f"{key}__{stem}__{variant.style_name}_{variant.variant[:8]}.{ending}"


def _variants_table(member: Member, truth: Truth) -> pd.DataFrame:
    """Rows like those of the renders; of MediaPipe's values x, y and visibility in the variant, as the gate saw them."""
    plain = _table(member, truth)
    truths = {file: rows for file, rows in plain.groupby("file", sort=False)}
    tables = []
    for variant in member.variants:
        rows = truths[f"images/{member.key}__{variant.source.file}"].copy()
        rows["file"] = f"images/{variant_name(member.key, variant)}"
        rows["variant"], rows["style"] = variant.variant, variant.style_name
        for column in (c for c in rows.columns if c.startswith("mediapipe_")):
            rows[column] = np.nan
        seen = ((variant.verdict or {}).get("enhanced") or {}).get("landmarks")
        if seen is not None:
            rows[["mediapipe_x", "mediapipe_y", "mediapipe_visibility"]] = np.array(seen)
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def _agreement(members: list[Member]) -> dict[str, float]:
    """MediaPipe against the truth over all images, weighted by images."""
    facts = [m.accuracy.facts["all"] for m in members]
    weights = np.array([f["images"] for f in facts], float)
    result = {}
    for name in ("detection_rate", "pck_0.2", "pck_0.1", "oks"):
        values = np.array([f[name] for f in facts], float)
        known = np.isfinite(values)
        if known.any():
            result[name] = float(np.average(values[known], weights=weights[known]))
    result["swaps"] = int(sum(f["swaps"] for f in facts))
    return result


def _contact_sheet(members: list[Member], folder: Path, target: Path) -> None:
    """A row per character, its views with the true landmarks drawn on; and below it variants of these views.

    Args:
        folder: the dataset's, with its images.
    """
    rows: list[tuple[str, Truth, list[tuple[int, Path]]]] = []
    for member in members[:SHEET_ROWS]:
        truth = read_truth(member.renders)
        count = len(truth.images)
        chosen = np.unique(np.linspace(0, count - 1, min(count, SHEET_COLUMNS)).round().astype(int))
        files = [truth.images[i]["file"] for i in chosen]
        renders = [folder / "images" / f"{member.key}__{file}" for file in files]
        rows.append((f"{member.key} ({member.split})", truth, list(zip(chosen.tolist(), renders, strict=True))))  # fmt: skip
        by_file = {v.source.file: v for v in reversed(member.variants)}
        shown = [
            (int(i), folder / "images" / variant_name(member.key, by_file[file]))
            for i, file in zip(chosen, files, strict=True)
            if file in by_file
        ]
        if shown:
            rows.append((f"{member.key}: variants", truth, shown))
    size = (SHEET_CELL * SHEET_COLUMNS, 18 + (SHEET_CELL + 18) * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 3), "true landmarks: green = visible, orange = occluded", fill="black")
    for r, (title, truth, cells) in enumerate(rows):
        top = 18 + r * (SHEET_CELL + 18)
        draw.text((4, top + 3), title, fill="black")
        for c, (index, path) in enumerate(cells):
            sheet.paste(_cell(path, truth, index), (c * SHEET_CELL, top + 18))
    sheet.save(target, quality=88)


def _cell(path: Path, truth: Truth, index: int) -> Image.Image:
    """A small picture of one image with its true landmarks."""
    with Image.open(path) as opened:
        scale = SHEET_CELL / max(opened.size)
        size = (round(opened.width * scale), round(opened.height * scale))
        cell = opened.convert("RGB").resize(size)
    draw = ImageDraw.Draw(cell)
    points = truth.arrays["pixels"][index] * scale
    for (x, y), seen in zip(points, truth.arrays["visibility"][index], strict=True):
        if seen:
            colour = (20, 140, 60) if seen == 2 else (230, 140, 0)
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
    draw.text((3, cell.height - 13), truth.images[index]["view"], fill=(90, 90, 90))
    return cell


def _look(settings: Mapping[str, Any]) -> str:
    """A render set's settings in few words."""
    return (
        f"{settings['num_angles']} views, {settings['width']} x {settings['height']}, {settings['preset']}, "
        f"{settings['background']}, {settings['engine']} {settings['samples']}, seed {settings['seed']}"
    )


def _style_lines(members: list[Member]) -> str:
    """What made the variants, a line for each style."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for variant in (v for m in members for v in m.variants):
        maker = variant.enhancer
        name = (variant.style_name, maker["provider"], maker["model"], maker["version"])
        counts[name] = counts.get(name, 0) + 1
    return "\n".join(
        f"- style `{style}`: {count} images by {provider}, {model} {version}"
        for (style, provider, model, version), count in sorted(counts.items())
    )


def _card(members: list[Member], figures: Mapping[str, Any]) -> str:
    empty = [s for s in SPLITS if not figures["splits"][s]]
    agreement = ", ".join(
        f"{name} {figures[name]:.3f}"
        for name in ("detection_rate", "pck_0.2", "pck_0.1", "oks")
        if name in figures
    )
    rows = "\n".join(
        f"| {m.key} | {m.split} | {m.renders.facts['images']} | {m.accuracy.facts['all']['pck_0.2']:.3f} "
        f"| {_look(m.renders.settings)} | {m.renders.facts['cropped_images']} |"
        for m in members
    )
    warning = (
        f"\n**No character fell into: {', '.join(empty)}.** Splits are drawn by character name; add characters.\n"
        if empty
        else ""
    )
    by_file: dict[str, list[str]] = {}
    for m in members:
        by_file.setdefault(f"{m.renders.inputs['skin_sha256']} {split_key(m.key)[1]}", []).append(
            m.key
        )
    same = [", ".join(keys) for keys in by_file.values() if len(keys) > 1]
    twins = f"\n**The same file under several keys: {'; '.join(same)}.**\n" if same else ""
    styles = _style_lines(members)
    return f"""# Pose dataset

{figures["characters"]} characters, {figures["images"]} images ({figures["variants"]} of them variants), {figures["labels"]} landmark labels.
Splits by character (never by image): {", ".join(f"{s} {figures['splits'][s]}" for s in SPLITS)}.
{warning}{twins}
![contact sheet](contact_sheet.jpg)

## How it was made

Rigged 3D characters rendered with Blender; every label is computed from the scene that made the image.
MediaPipe PoseLandmarker is measured against these labels on the renders and is not a label itself: {agreement},
{figures["swaps"]} whole-body left/right swaps. A variant carries the labels of its render: each was judged against them
and locked before it came here, by a gate whose recall and false rejections are published with Pose Factory (docs/gate.md).
{styles}

| character | split | images | MediaPipe PCK@0.2 | settings | cropped |
|---|---|---|---|---|---|
{rows}

## Files

- `images/`: renders as PNG, one person an image; and variants of them, named `<render>__<style>_<variant>`, in other
  places or looks. `masks/`: of the renders, 0 and 255; each image's COCO entry names its mask.
- `variants.json`: for each variant the render, prompts, parameters, seed, model and verdicts that made it what it is.
- `annotations/person_keypoints_17.json`, `…_33.json`: COCO keypoints, all images; `train_…`, `val_…`, `test_…` by split.
  Each image carries its camera: `intrinsics` (3 x 3, pixels), `rotation` (3 x 3) and `translation` (3, metres), so that
  `x_camera = rotation · x_world + translation`.
- `landmarks.parquet`: a row per image and landmark: truth (pixels, depth, camera and world coordinates in metres,
  visibility, origin) and MediaPipe's values beside it: `mediapipe_x` and `_y` in fractions of the image's width and
  height, `_z` without a unit, `mediapipe_world_*` in metres from between the hips, y down.
- `splits.json`: the split of each character.

## Conventions

Pixels have their origin at the outer corner of the top-left pixel. Camera frames follow OpenCV (x right, y down, z forward),
metres. Visibility: 0 outside the frame, 1 occluded, 2 the first surface on the ray from the camera belongs to the landmark's
own body part; a nose seen from behind therefore counts as visible, as the head is its part. `origin` says whether a landmark
is a joint of the rig (`bone`), a point of the skin (`surface`) or extrapolated (`interpolated`).

## Licence

Renders carry the terms of the characters that were put in. Mixamo characters are under Adobe's terms.
"""
