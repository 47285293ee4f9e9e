"""A model's answers on the controlled set against the truth, by attribute, with intervals of confidence."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.audits.controlled import BASE, Level, levels
from posefactory_dagster.quality.accuracy import keypoint_similarity, matched, torso_pixels
from posefactory_dagster.quality.models import PoseModel
from posefactory_dagster.renders.documents import Truth, read_truth
from posefactory_dagster.storage.sets import CommittedSet

_COCO = [LANDMARKS.index(name) for name in COCO_KEYPOINTS]
#: What is reported of each level, with the titles of its columns.
FIGURES = {"detected": "found", "pck": "PCK@0.2", "oks": "OKS"}
#: Draws of the bootstrap, and its confidence.
DRAWS, CONFIDENCE = 2000, 0.95


def measure(model: PoseModel, controlled: Sequence[CommittedSet], tell: Callable[[int, int], None]) -> pd.DataFrame:  # fmt: skip
    """A row for each person of each image: set, file, look, view, azimuth (whole degrees), frame, character, person (its place) of persons (of the image), and what the model made of it.

    ``detected``; ``oks`` over COCO's 17 keypoints, 0 for who is not found; ``pck``: the share of keypoints in the frame that lie within 0.2 torso lengths
    (0 for who is not found, NaN where none is in the frame); ``visible``: the share of keypoints that are seen; ``found``: (17, 3) as a list, empty for nobody. Who is
    not seen at all is left out.

    Args:
        tell: hears how many images are done, and of how many.
    """
    truths = [read_truth(c) for c in controlled]
    total, done, rows = sum(len(t.images) for t in truths), 0, []
    for committed, truth in zip(controlled, truths, strict=True):
        paths = committed.paths(f"images/{i.file}" for i in truth.images)
        for index, record in enumerate(truth.images):
            people = truth.rows_of(index)
            with Image.open(paths[f"images/{record.file}"]) as opened:
                image = np.asarray(opened.convert("RGB"))
            seen = [row for row in people if truth.arrays["area"][row]]
            answers = list(model.people(image, truth.arrays["bbox"][seen])) if seen else []
            for row, answer in zip(seen, _paired(truth, seen, answers), strict=True):
                person = row - people[0]
                rows.append(
                    {
                        "set": committed.ref.partition, "file": record.file, "look": record.look, "view": record.view, "azimuth": round(record.azimuth_degrees) % 360, "frame": record.frame,
                        "character": committed.facts["people"][person], "person": person, "persons": truth.persons, **_judged(truth, row, answer),
                    }
                )  # fmt: skip
            done += 1
            tell(done, total)
    return pd.DataFrame(rows)


def _paired(truth: Truth, rows: Sequence[int], answers: Sequence[np.ndarray]) -> list[np.ndarray | None]:  # fmt: skip
    """Of each person the answer that is about it."""
    wide = [_widened(a) for a in answers]
    arrays = {n: truth.arrays[n][list(rows)] for n in ("pixels", "measured", "bbox", "area")}
    pairs = matched(arrays["pixels"], arrays["measured"], arrays["bbox"], arrays["area"], wide) if rows else []  # fmt: skip
    return [None if p is None else answers[p] for p in pairs]


def _widened(answer: np.ndarray) -> np.ndarray:
    """COCO's 17 keypoints at their places among the 33 landmarks."""
    result = np.full((len(LANDMARKS), 2), np.nan)
    result[_COCO] = answer[:, :2]
    return result


def _judged(truth: Truth, row: int, answer: np.ndarray | None) -> dict[str, object]:
    one = {n: truth.arrays[n][row : row + 1] for n in ("pixels", "measured", "bbox", "area", "world", "depth", "intrinsics", "visibility")}  # fmt: skip
    inside = one["measured"][0, _COCO]
    visible = float((one["visibility"][0, _COCO] == 2).mean())
    if answer is None:
        return {"detected": False, "oks": 0.0, "pck": 0.0 if inside.any() else np.nan, "visible": visible, "found": []}  # fmt: skip
    torso = torso_pixels(one["world"], one["depth"], one["intrinsics"][:, 0, 0])[0]
    away = np.linalg.norm(answer[:, :2] - one["pixels"][0, _COCO], axis=1)
    oks = keypoint_similarity(one["pixels"], one["measured"], one["bbox"], one["area"], _widened(answer)[None])[0]  # fmt: skip
    return {
        "detected": True, "oks": float(oks), "pck": float((away <= 0.2 * torso)[inside].mean()) if inside.any() else np.nan, "visible": visible,
        "found": answer.tolist(),
    }  # fmt: skip


def by_attribute(rows: pd.DataFrame, about: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Of each level of each attribute: how many ``people``, and each of ``FIGURES`` with ``…_low`` and ``…_high``, the 95 % interval of a bootstrap over people in images.

    Args:
        about: of each character what is said of it (body, skin tone, clothes and so on); each becomes an attribute, measured in the base.
    """
    found = []
    base = rows[(rows["look"] == BASE) & (rows["persons"] == 1)]
    for level in levels():
        found.append((level.title, level.value, _of_level(rows, level)))
    found += [("view", str(v), mine) for v, mine in base.groupby("view", sort=False)]
    for name in dict.fromkeys(n for said in about.values() for n in said):
        values = base["character"].map({c: said.get(name, "") for c, said in about.items()})
        found += [(name, str(v), mine) for v, mine in base.groupby(values, sort=False) if v]
    lines = []
    for title, value, mine in found:
        if len(mine):
            lines.append({"attribute": title, "value": value, "people": len(mine), **_figures(mine)})  # fmt: skip
    return pd.DataFrame(lines)


def _of_level(rows: pd.DataFrame, level: Level) -> pd.DataFrame:
    mine = rows[(rows["look"] == level.look) & (rows["persons"] == level.persons)]
    if level.look != BASE or level.persons > 1:
        return mine
    # The base has more views than the levels; it is compared by the same ones, whose names depend on how many there are.
    others = set(rows.loc[rows["look"] != BASE, "azimuth"])
    return mine[mine["azimuth"].isin(others)] if others else mine


def _figures(mine: pd.DataFrame) -> dict[str, float]:
    result: dict[str, float] = {}
    for name in FIGURES:
        values = mine[name].dropna().to_numpy(float)
        mean = float(values.mean()) if len(values) else np.nan
        low = high = mean
        if len(values) > 1 and np.ptp(values) > 0:
            interval = stats.bootstrap((values,), np.mean, n_resamples=DRAWS, confidence_level=CONFIDENCE, method="percentile", random_state=np.random.default_rng(0)).confidence_interval  # fmt: skip
            low, high = float(interval.low), float(interval.high)
        result |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return result


def worst(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Of each look the person whom the model misses most, those first where it does well otherwise; of people of whom half of the keypoints are seen.

    Where a look is hard for everybody, its worst image says nothing that its mean does not.
    """
    fair = rows[rows["visible"] >= 0.5]
    looks = ["look", "persons"]
    below = fair.groupby(looks)["oks"].transform("mean") - fair["oks"]
    # Of several that are missed alike, any one, and not always the first in the alphabet.
    draw = [zlib.crc32(f"{s} {f} {p}".encode()) for s, f, p in zip(fair["set"], fair["file"], fair["person"], strict=True)]  # fmt: skip
    ranked = fair.assign(below=below.round(3), draw=draw).sort_values(["below", "draw"], ascending=[False, True])  # fmt: skip
    return ranked.drop_duplicates(looks).head(count)


def image_path(controlled: Sequence[CommittedSet], row: Mapping[str, Any]) -> Path:
    """The image of a row."""
    committed = next(c for c in controlled if c.ref.partition == row["set"])
    return committed.path(f"images/{row['file']}")
