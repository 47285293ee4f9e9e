"""The dataset's card: what it is, how it was made, which files there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from posefactory_dagster.datasets.documents import CONTACT_SHEET, STATISTICS
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.datasets.splits import SPLITS, STRICT, STRICTEST, Splits
from posefactory_dagster.datasets.statistics import biases
from posefactory_dagster.labels.documents import AccuracyFacts
from posefactory_dagster.renders.documents import CAST_WARNING, RenderFacts

#: What Hugging Face calls the splits.
HUGGING_FACE = {"train": "train", "val": "validation", "test": "test"}


def split_text(figures: Mapping[str, Any]) -> str:
    """How the pictures are split, in one sentence; the terminal and the card say the same."""
    counts = ", ".join(f"{s} {figures['splits'][s]}" for s in SPLITS)
    how = {
        "person": "by person, so that nobody is in two",
        **{unit: f"by {unit}, so that none of them is in two" for unit in (STRICT, STRICTEST)},
        "frame": "by frame, as there is one person only: add characters for a split by person",
    }[figures.get("split_by", "person")]  # of datasets before version 4
    empty = [s for s in SPLITS if not figures["splits"][s]]
    # Told apart so strictly, a split is empty where its people share all looks or motions with those of another.
    strict = figures.get("split_by") in (STRICT, STRICTEST)
    advice = "render in more looks, add motions, or set split_by in [dataset]" if strict else "add characters"  # fmt: skip
    hint = f"; {' and '.join(empty)} empty: {advice}" if empty else ""
    return f"images: {counts}; drawn {how}{hint}"


def card(
    members: Sequence[Member],
    pictures: Mapping[str, Sequence[Picture]],
    splits: Splits,
    figures: Mapping[str, Any],
    people: pd.DataFrame,
    version: str,
) -> str:
    """The text of the dataset's README.md, with the head that Hugging Face reads.

    Args:
        people: see ``variety.read_people``.
    """
    agreement = ", ".join(
        f"{name} {figures[name]:.3f}"
        for name in ("detection_rate", "pck_0.2", "pck_0.1", "oks")
        if name in figures
    )
    rows = "\n".join(
        f"| {m.key} | {_split(m, splits)} | {len(pictures[m.key])} | {m.accuracy.facts_as(AccuracyFacts).all.pck_0_2:.3f} "
        f"| {_look(m.renders.settings)} | {m.renders.facts_as(RenderFacts).cropped_images} | {m.renders.facts_as(RenderFacts).landmarks_by_proportion} |"
        for m in members
    )
    styles = _style_lines(pictures)
    return f"""{_head(figures)}# Pose dataset

{figures["characters"]} characters, {figures["images"]} images ({figures["variants"]} of them variants), {figures["labels"]} landmark labels.
Splits, {split_text(figures)}.{_seen(figures)}
{_left_out(figures)}{_twins(members)}
![contact sheet]({CONTACT_SHEET})

## How it was made

Rigged 3D characters rendered with Blender; every label is computed from the scene that made the image.
MediaPipe PoseLandmarker is measured against these labels on the renders and is not a label itself: {agreement},
{figures["swaps"]} whole-body left/right swaps. A variant carries the labels of its render. Where its maker could have moved the
pose, it was judged against them and locked before it came here, by a gate whose recall and false rejections are published with
Pose Factory (docs/gate.md); where the person's very pixels were taken over (`relight`), the gate's verdict is a column.
{styles}

| character | split | images | MediaPipe PCK@0.2 | settings | cropped | landmarks by proportion |
|---|---|---|---|---|---|---|
{rows}

{_cast_warnings(members)}Of the renders' landmarks {figures["landmarks_hidden"]} are hidden and {figures["landmarks_out_of_frame"]} out of the frame; {figures["empty_images"]} renders show nobody.

## What is in it, and where MediaPipe fails

![shares and MediaPipe's PCK]({STATISTICS})

Shares of the people in renders, how many of them MediaPipe finds, and its mean PCK@0.2 on them (nobody found counts as 0). What few people show, a
network will not learn from this set; `posefactory datasets variety` says what would add it. Faces have one expression, hands are open but where the motion
moves fingers, nobody carries anything that the motion's file does not show, and all bodies are of one model.

| | | people | share | found | MediaPipe PCK@0.2 |
|---|---|---|---|---|---|
{_biases(people)}

Each picture has a `weight` (mean 1 in each split): with it, every character, every look and every view counts the same.

## Files

- `images/train|val|test/`: renders as PNG, one person an image but in groups; and variants of them, named `<render>__<style>_<variant>`, in
  other places or looks. `masks/`: of the renders, 0 and 255; `depth/`: distance of the person's surface along the camera's axis in
  millimetres (16 bits, 0 where there is none). A variant has the mask and the depth of its render; each COCO entry names them.
  `instances/`: of groups, which pixel is whose: 1 for the first person, 2 for the second and so on, 0 for nobody.
- `annotations/person_keypoints_train|val|test|all.json`: COCO keypoints (17), `file_name` relative to `images/`;
  `…_33_train|val|test|all.json`: MediaPipe's 33 landmarks in the same form, `sigmas_33.json` what OKS needs for them.
  An image of a group has several annotations; who is not seen at all has none. Beside COCO's fields an annotation has `person` (the key),
  `amodal_bbox` (of all of the person, hidden or out of the frame), `occluded_by` (why each of the 33 landmarks is not visible: none, self,
  person, object, clothing, frame), `foot_contact`, and `markers`: x, y, v of the anatomical markers that the image's `markers` names, where
  the character carries some.
  Each image carries its camera: `intrinsics` (3 x 3, pixels), `rotation` (3 x 3) and `translation` (3, metres), so that
  `x_camera = rotation · x_world + translation`.
  Ids of images and annotations are digests of their names, so they are the same in every version; `category.flip_pairs` says what changes places in
  a mirrored picture. A person whose box is under `min_size` of the image keeps box and mask, and has no keypoints.
- `data.yaml` and `labels/`: the 17 keypoints for Ultralytics: `yolo pose train data=data.yaml model=…`.
- `images/*/metadata.jsonl`: labels for Hugging Face: `datasets.load_dataset("imagefolder", data_dir="images")`, or `load_dataset` on this folder.
- `landmarks.parquet`: a row per image, person and landmark: truth (pixels, depth, camera and world coordinates in metres,
  visibility and what it was decided by, origin) and MediaPipe's values beside it: `mediapipe_x` and `_y` in fractions of the image's
  width and height, `_z` without a unit, `mediapipe_world_*` in metres from between the hips, y down. Variants have `mediapipe_x`, `_y` and
  `_visibility`, as the gate saw them, and nothing in the other `mediapipe_*` columns.
  `gate` is the gate's verdict on a variant. Of styles that cannot move the pose (`relight`) it blocks nothing: a severity of major or
  critical says that MediaPipe sees the person otherwise there than in the render.
- `people.parquet`: a row per image and person: pose, view, size, what hides it, body, clothes, look, and whether MediaPipe found it.
- `pictures.parquet`: a row per image: record and annotations as JSON, what `datasets export --select` asks, the weight.
- `gallery.html`: all of it in a browser, opened from the file: filters, landmarks, masks, depth, MediaPipe beside the truth, skeletons in space.
- `croissant.json`: files and columns in Croissant 1.0, for catalogues and loaders (`mlcroissant`).
- `variants.json`: for each variant the render, prompts, parameters, seed, model and verdicts that made it what it is.
- `splits.json`: the split of each character, or of its frames; of each motion and look where these are told apart.

## Conventions

Pixels have their origin at the outer corner of the top-left pixel. Camera frames follow OpenCV (x right, y down, z forward),
metres. Visibility (`v`): 2 where an annotator would see the place: it is in the frame, the first surface on the ray from the
camera lies within a few centimetres of it (a joint lies inside its limb), and a point of the surface faces the camera; 1 in the frame
and hidden; 0 outside the frame. `visible_part` in the table is another rule: the first surface belongs to the landmark's own body
part. `origin` says whether a landmark is a joint of the rig (`bone`), a point of the skin (`surface`), extrapolated (`interpolated`)
or placed by proportion where the character has no such feature (`proportion`); the last are v = 0 in the label files unless the
setting `proportion_landmarks` says otherwise.

## Licence

Renders carry the terms of the characters that were put in. People made by Pose Factory are CC0 1.0, in
places and light of Blender's own maps (CC0), but for pieces of a wardrobe that others made:
{_licences(members)}{_mixamo(figures)}
## How to cite

```bibtex
{citation(version, max(m.renders.created_at for m in members)[:4])}
```

Name the version: another one has other pictures. MediaPipe's model is BlazePose (V. Bazarevsky et al., CVPR Workshop 2020).
"""


def citation(version: str, year: str) -> str:
    """A BibTeX entry for a version of the dataset."""
    return f"@misc{{pose_dataset_{version[:8]}, title = {{Pose dataset {version}}}, howpublished = {{Made with Pose Factory}}, year = {{{year}}}}}"


def _seen(figures: Mapping[str, Any]) -> str:
    """What val and test share with train beside persons."""
    seen = figures["seen_in_training"]
    if not any(shared for shared, _ in seen.values()):
        return ""
    said = " and ".join(f"{shared} of their {of} {what}" for what, (shared, of) in seen.items() if shared)  # fmt: skip
    return (
        f"\n\nVal and test show nobody who is in train, but {said} are in train too. `[dataset] split_by = \"all\"` leaves out what mixes them."
    )  # fmt: skip


def _left_out(figures: Mapping[str, Any]) -> str:
    reasons = {
        "empty": "show nobody", "small": "show nobody large enough", "near_duplicates": "are nearly the same as another",
        "split": "show a motion or a look of another split", "variants": "are variants before a background of another split",
    }  # fmt: skip
    said = [f"{figures['renders_left_out'][k]} that {words}" for k, words in reasons.items() if figures["renders_left_out"][k]]  # fmt: skip
    return f"\nRenders that are left out: {', '.join(said)}.\n" if said else ""


def _biases(people: pd.DataFrame) -> str:
    rows, last = [], None
    for row in biases(people).to_dict("records"):
        pck = "-" if pd.isna(row["pck"]) else f"{row['pck']:.3f}"
        axis = row["axis"] if row["axis"] != last else ""
        rows.append(f"| {axis} | {row['value']} | {row['people']} | {row['share']:.1%} | {row['detected']:.1%} | {pck} |")  # fmt: skip
        last = row["axis"]
    return "\n".join(rows)


def _mixamo(figures: Mapping[str, Any]) -> str:
    """What to know of uploaded characters that have Mixamo's rig."""
    if not figures["mixamo_rigs"]:
        return ""
    return f"""
**Uploaded characters with Mixamo's rig: {", ".join(figures["mixamo_rigs"])}.** If they are Mixamo's, Adobe's terms hold for them and for their motions: their files
may not be passed on, and Adobe's General Terms of Use restrict what may be done with its content, training of models included. Read these terms
before you train on this set, sell it or publish it.
"""


def _licences(members: Sequence[Member]) -> str:
    """The pieces that others made, each with its licence and author, and who wears it."""
    worn: dict[str, list[str]] = {}
    for m in members:
        for piece, licence in m.renders.facts_as(RenderFacts).licences.items():
            worn.setdefault(f"{piece.removeprefix('piece_')}: {licence}", []).append(m.key)
    lines = [f"- {piece} ({', '.join(keys)})" for piece, keys in sorted(worn.items())]
    return "\n" + "\n".join(lines or ["- none"]) + "\n"


def _cast_warnings(members: Sequence[Member]) -> str:
    """Which casts are far from their motions: their labels are exact, but people do not move so."""
    found = [
        f"- {m.key}: {'; '.join(texts)}"
        for m in members
        if (
            texts := [
                w.removeprefix(CAST_WARNING)
                for w in m.renders.facts_as(RenderFacts).warnings
                if w.startswith(CAST_WARNING)
            ]
        )
    ]
    if not found:
        return ""
    return (
        "Casts that miss their motion (labels are exact all the same):\n\n"
        + "\n".join(found)
        + "\n\n"
    )


def _head(figures: Mapping[str, Any]) -> str:
    files = [
        {"split": HUGGING_FACE[s], "path": f"images/{s}/*"} for s in SPLITS if figures["splits"][s]
    ]
    head = {
        "task_categories": ["keypoint-detection"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"


def _split(member: Member, splits: Splits) -> str:
    if member.key in splits.by_key:
        return splits.by_key[member.key]
    return " / ".join(dict.fromkeys(splits.by_frame[member.key].values()))


def _look(settings: Mapping[str, Any]) -> str:
    """A render set's settings in few words."""
    looks = settings.get("looks", "plain")
    place = settings["background"] if looks == "plain" else looks.replace(",", ", ")
    return (
        f"{settings['num_angles']} views, {settings['width']} x {settings['height']}, {settings['preset']}, "
        f"{place}, {settings['engine']} {settings['samples']}, seed {settings['seed']}"
    )


def _style_lines(pictures: Mapping[str, Sequence[Picture]]) -> str:
    """What made the variants, a line for each style."""
    counts: dict[tuple[str, str, str, str], int] = {}
    for variant in (p.variant for mine in pictures.values() for p in mine):
        if variant is not None:
            maker = variant.enhancer
            name = (variant.style_name, maker["provider"], maker["model"], maker["version"])
            counts[name] = counts.get(name, 0) + 1
    return "\n".join(
        f"- style `{style}`: {count} images by {provider}, {model} {version}"
        for (style, provider, model, version), count in sorted(counts.items())
    )


def _twins(members: Sequence[Member]) -> str:
    by_file: dict[str, list[str]] = {}
    for m in members:
        if len(m.skins) > 1:
            continue  # a group shows people of other keys by intent
        content = f"{m.skins[0][1]} {m.motions}"
        by_file.setdefault(content, []).append(m.key)
    same = [", ".join(keys) for keys in by_file.values() if len(keys) > 1]
    return f"\n**The same file under several keys: {'; '.join(same)}.**\n" if same else ""
