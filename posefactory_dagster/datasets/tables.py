"""The dataset's table: a row per image, person and landmark, the truth and MediaPipe's values side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.labels.documents import LABEL_TABLE
from posefactory_dagster.renders.documents import Truth, occluder_names


def landmark_table(member: Member, truth: Truth, pictures: Sequence[Picture]) -> pd.DataFrame:
    """Rows of all pictures of a member.

    Of MediaPipe's values, renders have all; variants have x, y and visibility, as the gate saw them in the variant, and
    nothing (NaN) in the other columns.
    """
    plain = _truth_rows(member, truth)
    tables = []
    for picture in pictures:
        rows = plain[picture.index].copy()
        rows["file"] = f"images/{picture.name}"
        rows["split"] = picture.split
        if picture.variant is not None:
            variant = picture.variant
            rows["variant"], rows["style"] = variant.variant, variant.style_name
            rows["gate"] = variant.verdict.severity if variant.verdict else ""
            for column in (c for c in rows.columns if c.startswith("mediapipe_")):
                rows[column] = np.nan
            seen = (
                variant.verdict.enhanced.landmarks
                if variant.verdict and variant.verdict.enhanced
                else None
            )
            if seen is not None:
                rows[["mediapipe_x", "mediapipe_y", "mediapipe_visibility"]] = np.array(seen)
        tables.append(rows)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _truth_rows(member: Member, truth: Truth) -> list[pd.DataFrame]:
    """The rows of each render."""
    persons = truth.persons
    count, width = len(truth.images) * persons, len(LANDMARKS)
    arrays = truth.arrays

    def repeated(name: str) -> np.ndarray:
        return np.repeat([getattr(i, name) for i in truth.images], width * persons)

    columns: dict[str, Any] = {
        "character": member.key,
        "split": "",
        "file": repeated("file"),
        "variant": "",
        "style": "",
        "gate": "",
        "frame": repeated("frame"),
        "view": repeated("view"),
        "person_index": np.repeat(np.tile(np.arange(persons), len(truth.images)), width),
        "landmark": np.tile(np.arange(width), count),
        "name": np.tile(LANDMARKS, count),
        "origin": arrays["origin"].ravel(),
        "x_px": arrays["pixels"][..., 0].ravel(),
        "y_px": arrays["pixels"][..., 1].ravel(),
        "depth_m": arrays["depth"].ravel(),
    }
    for name in ("visibility", "in_frame", "visible", "visible_part", "occluder_gap_m", "facing"):
        columns[name] = arrays[name].ravel()
    why = occluder_names(arrays)
    columns["occluded_by"] = "" if why is None else why.ravel()
    # Sets of versions before 8 do not say it; all tables have the same columns.
    columns["occluded_by_person"] = arrays["occluded_by_person"].ravel() if "occluded_by_person" in arrays else np.int64(-1)  # fmt: skip
    columns["look"] = repeated("look")
    parts = np.array([*truth.document.parts, "nothing", "no part"])
    columns["first_hit_part"] = parts[
        arrays["first_hit_part"].ravel()
    ]  # -1 and -2 count from the end
    for frame in ("camera", "world"):
        for i, axis in enumerate("xyz"):
            columns[f"{frame}_{axis}_m"] = arrays[frame][..., i].ravel()
    table = pd.DataFrame(columns)
    labels = pd.read_parquet(member.labels.path(LABEL_TABLE))
    labels = labels[labels["detected"]].drop(columns=["frame", "view", "name", "detected"])
    labels = labels.rename(
        columns={
            c: f"mediapipe_{c}"
            for c in labels.columns
            if c not in ("file", "person_index", "landmark")
        }
    )
    merged = table.merge(labels, on=["file", "person_index", "landmark"], how="left")
    size = width * persons
    return [merged.iloc[i * size : (i + 1) * size] for i in range(len(truth.images))]
