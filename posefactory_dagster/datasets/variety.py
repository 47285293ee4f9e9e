"""How varied a dataset is: shares of poses, views, bodies, places and occlusion, and what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.datasets.members import Member, Picture
from posefactory_dagster.motions.documents import RecipeError, read_recipe
from posefactory_dagster.people.documents import ASSET as PERSON
from posefactory_dagster.people.documents import DESCRIPTION, PersonFacts
from posefactory_dagster.quality.accuracy import torso_pixels
from posefactory_dagster.renders.documents import Truth, occluder_names
from posefactory_dagster.storage.sets import CommittedSets

#: The dataset's file with a row for each person of each picture, and its columns; see ``people_of``.
PEOPLE_TABLE = "people.parquet"
PEOPLE_SCHEMA = pa.schema(
    [
        *((n, pa.string()) for n in ("file", "split", "character", "look", "variant", "pose", "azimuth", "elevation", "size", "seen", "hidden_by", "people", "height", "gender", "age", "skin_tone", "clothes")),
        ("detected", pa.bool_()), ("pck", pa.float64()),
    ]
)  # fmt: skip
#: A share of an axis below this is a hole.
LEAST_SHARE = 0.02
#: So many of the 33 landmarks are hidden where hardly anything is.
LITTLE_HIDDEN = 6
#: What nobody says of uploaded characters.
UNKNOWN = "not said"
_INDEX = {name: i for i, name in enumerate(LANDMARKS)}


@dataclass(frozen=True)
class Axis:
    """One way in which people in pictures differ: its column, its title, and for each value, in order, what brings more of it: a command,
    or a setting in posefactory.toml."""

    column: str
    title: str
    fills: Mapping[str, str]

    @property
    def values(self) -> tuple[str, ...]:
        """Its values, in order."""
        return tuple(self.fills)


def _cast(motion: str) -> str:
    return f"posefactory motions add assets_data/motions/{motion}.bvh; posefactory cast --skins '*' --motions {motion}"


_RING, _GROUPS = "[render] num_angles = 8", "posefactory groups sample 5"
_FRAMING = '[render] looks = "kitchen,street" (their framing crops)'
_FAR = '[render] looks = "surveillance" (its cameras stand far away)'
AXES = (
    Axis("pose", "pose", {"standing": _cast("walk"), "arms raised": _cast("reach_high"), "one leg raised": _cast("kick"), "bending": _cast("pick_up"), "squatting or sitting": _cast("squat"), "lying": _cast("lie_down")}),
    Axis("azimuth", "view, from the person's front", dict.fromkeys(("front", "front side", "side", "back side", "back"), _RING)),
    Axis("elevation", "height of the camera", {"from below": '[render] looks = "kitchen,gym" (their cameras go below the middle)', "level": _RING, "from above": '[render] looks = "surveillance"', "from high above": '[render] looks = "drone"'}),
    Axis("size", "height in the frame", {"under 1/8": _FAR, "1/8 to 1/4": _FAR, "1/4 to 1/2": '[render] padding = 2', "over 1/2": "[render] close_ups = 0.3"}),
    Axis("seen", "landmarks that are seen", {"under 1/4": _GROUPS, "1/4 to 1/2": _RING, "1/2 to 3/4": '[render] looks = "storeroom"', "over 3/4": _RING}),
    Axis("hidden_by", "what hides landmarks most", {"little": _RING, "self": _RING, "person": _GROUPS, "object": '[render] looks = "storeroom"', "clothing": 'posefactory people add "a woman in a coat and a skirt"', "frame": _FRAMING}),
    Axis("people", "people in a picture", {"1": "posefactory people sample 5", "2": f"{_GROUPS} --most 2", "3 or more": f"{_GROUPS} --most 6"}),
    Axis("height", "height of the person", {h: f'posefactory people add "a {w}"' for h, w in (("under 1.2 m", "boy of 5 years"), ("1.2 to 1.5 m", "girl of 10 years"), ("1.5 to 1.65 m", "short woman"), ("1.65 to 1.8 m", "woman"), ("over 1.8 m", "very tall man"))}),
    Axis("gender", "gender", {"female": 'posefactory people add "a woman"', "male": 'posefactory people add "a man"'}),
    Axis("age", "age", {a: f'posefactory people add "a {w}"' for a, w in (("under 13", "girl of 8 years"), ("13 to 19", "boy of 16 years"), ("20 to 39", "young woman"), ("40 to 59", "man of 50 years"), ("60 and over", "old man"))}),
    Axis("skin_tone", "skin tone (Monk)", {f"{n} to {n + 1}": f"posefactory people add tone.yaml, with skin: {{tone: {n}}}" for n in (1, 3, 5, 7, 9)}),
)  # fmt: skip


@dataclass(frozen=True)
class Hole:
    """A value of an axis that few or no people in the dataset have, and what would fill it."""

    axis: str
    value: str
    share: float
    fill: str


def read_people(path: Path) -> pd.DataFrame:
    """A row for each person that is in a render of a dataset, from its table of people."""
    return pd.read_parquet(path, filters=[("variant", "==", "")])


def people_of(
    member: Member,
    truth: Truth,
    pictures: Sequence[Picture],
    landmarks: pd.DataFrame,
    known_of: Callable[[str], Mapping[str, str]],
) -> pd.DataFrame:
    """A row for each person that is seen in a picture of a member.

    The columns of ``AXES``; look, clothes, file, split, character (who it is) and variant; ``detected``: whether MediaPipe found the person, and ``pck``: the
    share of landmarks that it has within 0.2 torso lengths, 0 where it found nobody, NaN where there is nothing to compare.

    Args:
        landmarks: the rows of these pictures in the dataset's table, see ``tables``. known_of: what is said of a person by its key.
    """
    arrays, persons = truth.arrays, truth.persons
    keys = [p.key for p in truth.document.persons] or [member.key]
    known = [known_of(key) for key in keys]
    why = occluder_names(arrays)
    azimuth, elevation = views_of(arrays)
    torso = torso_pixels(arrays["world"], arrays["depth"], arrays["intrinsics"][:, 0, 0])
    found = landmarks[["mediapipe_x", "mediapipe_y"]].to_numpy(float).reshape(len(pictures), persons, -1, 2) if pictures else None  # fmt: skip
    rows = []
    for number, picture in enumerate(pictures):
        record = truth.images[picture.index]
        for person, row in enumerate(truth.rows_of(picture.index)):
            if not arrays["area"][row]:
                continue
            assert found is not None
            hidden = [] if why is None else [w for w in why[row] if w != "none"]
            seen = found[number, person] * truth.sizes[row]
            detected = bool(np.isfinite(seen[0, 0]))
            inside = arrays["measured"][row]
            near = np.linalg.norm(seen - arrays["pixels"][row], axis=1) <= 0.2 * torso[row]
            rows.append(
                {
                    "file": f"images/{picture.name}", "split": picture.split, "character": keys[person], "look": record.look,
                    "variant": picture.variant.variant if picture.variant else "",
                    "pose": pose_of(arrays["world"][row]),
                    "azimuth": _banded(abs(azimuth[row]), (22.5, 67.5, 112.5, 157.5), "azimuth"),
                    "elevation": _banded(elevation[row], (-5, 15, 40), "elevation"),
                    "size": _banded(arrays["bbox"][row][3] / truth.sizes[row, 1], (0.125, 0.25, 0.5), "size"),
                    "seen": _banded(float((arrays["visibility"][row] == 2).mean()), (0.25, 0.5, 0.75), "seen"),
                    "hidden_by": max(set(hidden), key=hidden.count) if len(hidden) > LITTLE_HIDDEN else "little",
                    "people": ("1", "2", "3 or more")[min(persons, 3) - 1],
                    "height": _banded(truth.document.persons[person].height_m, (1.2, 1.5, 1.65, 1.8), "height") if truth.document.persons else UNKNOWN,
                    **known[person],
                    "detected": detected, "pck": float(near[inside].mean()) if inside.any() else float("nan"),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _banded(value: float, edges: Sequence[float], column: str) -> str:
    axis = next(a for a in AXES if a.column == column)
    return axis.values[int(np.searchsorted(edges, value, side="right"))]


def views_of(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """From where each person is seen: degrees from its front (0 to 180, by hips and shoulders), and above the level of its middle."""
    world = arrays["world"]
    cameras = -np.einsum("nji,nj->ni", arrays["rotation"], arrays["translation"])
    sides = sum(world[:, _INDEX[f"left_{j}"]] - world[:, _INDEX[f"right_{j}"]] for j in ("shoulder", "hip"))  # fmt: skip
    middle = sum(world[:, _INDEX[f"{s}_{j}"]] for s in ("left", "right") for j in ("shoulder", "hip")) / 4  # fmt: skip
    front = np.stack([sides[:, 1], -sides[:, 0]], axis=1)  # a quarter turn clockwise from the left
    away = cameras - middle
    cosine = (front * away[:, :2]).sum(axis=1) / np.maximum(np.linalg.norm(front, axis=1) * np.linalg.norm(away[:, :2], axis=1), 1e-9)  # fmt: skip
    elevation = np.degrees(np.arctan2(away[:, 2], np.linalg.norm(away[:, :2], axis=1)))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))), elevation


def pose_of(world: np.ndarray) -> str:
    """What kind of pose landmarks (33, 3) show, by where limbs point; the first that fits."""

    def at(name: str) -> np.ndarray:
        return (world[_INDEX[f"left_{name}"]] + world[_INDEX[f"right_{name}"]]) / 2

    def upwards(one: np.ndarray, other: np.ndarray) -> float:
        way = other - one
        return float(way[2] / max(np.linalg.norm(way), 1e-9))

    trunk = upwards(at("hip"), at("shoulder"))
    thighs = [upwards(world[_INDEX[f"{s}_knee"]], world[_INDEX[f"{s}_hip"]]) for s in ("left", "right")]  # fmt: skip
    feet = [world[_INDEX[f"{s}_ankle"]][2] for s in ("left", "right")]
    arms = [upwards(world[_INDEX[f"{s}_shoulder"]], world[_INDEX[f"{s}_wrist"]]) for s in ("left", "right")]  # fmt: skip
    leg = float(np.linalg.norm(at("hip") - at("knee")))
    if abs(trunk) < 0.5 and max(abs(t) for t in thighs) < 0.5:
        return "lying"
    if max(thighs) < 0.7:
        return "squatting or sitting"
    if abs(feet[0] - feet[1]) > 0.7 * leg:
        return "one leg raised"
    if max(arms) > 0.4:
        return "arms raised"
    return "bending" if trunk < 0.75 else "standing"


def known_of(sets: CommittedSets, key: str) -> dict[str, str]:
    """What is said of a person that was made here, or by whom it is played in a cast; ``UNKNOWN`` of an uploaded one."""
    with contextlib.suppress(RecipeError):
        recipe = read_recipe(sets.store, key)
        key = recipe.skin if recipe is not None else key
    made = sets.readable(PERSON, key)
    if made is None:
        return dict.fromkeys(("gender", "age", "skin_tone", "clothes"), UNKNOWN)
    facts = made.facts_as(PersonFacts)
    described: dict[str, Any] = yaml.safe_load(made.path(DESCRIPTION).read_text("utf-8")) or {}
    worn = [str(g.get("kind") or g.get("piece")) for g in described.get("clothes") or []]
    return {
        "gender": facts.gender or UNKNOWN,
        "age": _banded(facts.age, (13, 20, 40, 60), "age"),
        "skin_tone": _banded(facts.skin_tone, (2.5, 4.5, 6.5, 8.5), "skin_tone"),
        "clothes": " + ".join(sorted(worn)) or UNKNOWN,
    }


def shares(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Of each axis, the share of people that has each value, those that nobody has included; and looks and clothes."""
    found: dict[str, dict[str, float]] = {}
    for axis in AXES:
        counts = table[axis.column].value_counts(normalize=True)
        values = [*axis.values, *([UNKNOWN] if UNKNOWN in counts else [])]
        found[axis.column] = {v: float(counts.get(v, 0.0)) for v in values}
    for column in ("look", "clothes"):
        counts = table[column].value_counts(normalize=True)
        found[column] = {str(v): float(s) for v, s in counts.items()}
    return found


def holes(found: Mapping[str, Mapping[str, float]]) -> list[Hole]:
    """The values that fewer than ``LEAST_SHARE`` of the people have; of an axis of which nothing is said, none."""
    missing = []
    for axis in AXES:
        mine = found[axis.column]
        if mine.get(UNKNOWN, 0.0) > 1 - LEAST_SHARE:
            continue
        missing += [
            Hole(axis.title, v, mine[v], fill)
            for v, fill in axis.fills.items()
            if mine[v] < LEAST_SHARE
        ]
    return missing


def draw(found: Mapping[str, Mapping[str, float]], people: int, target: Path) -> None:
    """Bars of each axis in one picture; what is missing is red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    titles = {a.column: a.title for a in AXES} | {"look": "look", "clothes": "clothes"}
    columns, rows = 3, -(-len(titles) // 3)
    figure = Figure(figsize=(15, 2.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{people} people in pictures; red: fewer than {LEAST_SHARE:.0%}", fontsize=12)
    grid = figure.subplots(rows, columns)
    for axes in grid.flat[len(titles) :]:
        axes.axis("off")
    for axes, (column, title) in zip(grid.flat, titles.items(), strict=False):
        values = dict(sorted(found[column].items(), key=lambda kv: -kv[1])[:10]) if column in ("look", "clothes") else found[column]  # fmt: skip
        colours = ["#999999" if v == UNKNOWN else "#c8102e" if s < LEAST_SHARE else "#2f6f9f" for v, s in values.items()]  # fmt: skip
        names = [v if len(v) < 34 else f"{v[:32]}…" for v in values]
        bars = axes.barh(range(len(values)), list(values.values()), color=colours)
        axes.set_yticks(range(len(values)), names, fontsize=8)
        silent = values.get(UNKNOWN, 0.0) > 1 - LEAST_SHARE
        for label, share in zip(axes.get_yticklabels(), values.values(), strict=True):
            if share < LEAST_SHARE and not silent:
                label.set_color("#c8102e")
        axes.bar_label(bars, [f"{s:.0%}" for s in values.values()], fontsize=8, padding=2)
        axes.set_xlim(0, 1.12)
        axes.set_xticks([])
        axes.invert_yaxis()
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_title(title, fontsize=10, loc="left")
    figure.savefig(target, dpi=100)
