"""What the viewer's pages show, read from the store."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from blender_scripts.contract import LANDMARKS, THUMBNAIL
from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import CharacterFacts, known_facts
from posefactory_dagster.datasets.documents import CARD
from posefactory_dagster.labels.documents import ACCURACY, ACCURACY_TABLE, LABEL_TABLE, LABELS
from posefactory_dagster.motions.documents import MOTION
from posefactory_dagster.quality.landmarker import SKELETON, to_array
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.renders.documents import STRIP, read_depth, read_truth
from posefactory_dagster.review.approval import (
    ApprovalError,
    Decisions,
    as_locked,
    locks_of,
    state_of,
)
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets
from posefactory_dagster.storage.store import DamagedObject
from posefactory_dagster.variants.documents import ASSET as VARIANTS
from posefactory_dagster.variants.documents import Variant, read_variants

_INDEX = {name: i for i, name in enumerate(LANDMARKS)}
LIMBS = [(_INDEX[a], _INDEX[b]) for a, b in SKELETON]
#: How a landmark of the truth is called in pages, by its visibility.
SEEN = {0: "out of the frame", 1: "hidden", 2: "visible"}


@dataclass(frozen=True)
class Point:
    """A landmark on a picture, pixels; ``visibility`` as COCO has it."""

    name: str
    x: float
    y: float
    visibility: int


@dataclass(frozen=True)
class Look:
    """One render with what is known of it; ``truth`` holds 33 landmarks of each person, ``found`` 33 of each that was found, and
    ``away`` for each of the first, how many pixels the second is off, None where nobody was found."""

    file: str
    frame: int
    view: str
    width: int
    height: int
    truth: Sequence[Point]
    found: Sequence[Point]
    away: Sequence[float | None]
    oks: float | None

    def lines(self, points: Sequence[Point]) -> list[tuple[Point, Point]]:
        """The limbs between some landmarks."""
        people = range(0, len(points), len(LANDMARKS))
        return [(points[first + a], points[first + b]) for first in people for a, b in LIMBS]


@dataclass(frozen=True)
class Person:
    """A character's sets, those that there are."""

    key: str
    character: CommittedSet | None
    renders: CommittedSet | None
    labels: CommittedSet | None
    accuracy: CommittedSet | None
    variants: CommittedSet | None

    @property
    def picture(self) -> tuple[CommittedSet, str] | None:
        """What stands for it in a list: its first pictures, else its thumbnail."""
        for committed, name in ((self.renders, STRIP), (self.character, THUMBNAIL)):
            if committed is not None and name in committed.files:
                return committed, name
        return None

    @property
    def facts(self) -> CharacterFacts | None:
        """What inspection found; None where nothing was inspected, or its set is damaged."""
        return known_facts(self.character)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What a person wants to know of it, by name."""
        facts = self.facts
        if facts is None:
            return []
        height = [("height", f"{facts.height_m:.2f} m")] if facts.height_m else []
        start, end = facts.frame_range
        told = [("warning", text) for text in facts.warnings]
        return [("kind", facts.kind), *height, ("frames", f"{start} to {end}"), *told]


def people(sets: CommittedSets) -> list[Person]:
    """Every character that has a set."""
    prefixes = (CHARACTER, RENDERS)
    listed = (item.key for p in prefixes for item in sets.store.list(layout.current_prefix(p)))
    found = {place[1] for key in listed if (place := layout.parse_current(key))}
    return [person(sets, key) for key in sorted(found)]


@dataclass(frozen=True)
class Motion:
    """An inspected motion."""

    committed: CommittedSet
    facts: CharacterFacts

    @property
    def words(self) -> str:
        """Its frames and its length."""
        start, end = self.facts.frame_range
        return f"frames {start} to {end}, {(end - start) / self.facts.fps:.1f} s"


def motions(sets: CommittedSets) -> list[Motion]:
    """Every motion that has a readable set."""
    places = [layout.parse_current(i.key) for i in sets.store.list(layout.current_prefix(MOTION))]
    found = (sets.readable(MOTION, key) for key in sorted(p[1] for p in places if p))
    known = ((made, known_facts(made)) for made in found)
    return [Motion(made, facts) for made, facts in known if made is not None and facts is not None]


def person(sets: CommittedSets, key: str) -> Person:
    """A character's present sets."""
    assets = (CHARACTER, RENDERS, LABELS, ACCURACY, VARIANTS)
    return Person(key, *(sets.readable(asset, key) for asset in assets))


def looks(one: Person) -> list[Look]:
    """A character's renders in the truth's order.

    Raises:
        DamagedObject: a file is not what it was.
    """
    if one.renders is None:
        return []
    truth = read_truth(one.renders)
    files = [i.file for i in truth.images]
    found: np.ndarray | None = None
    if one.labels is not None and one.labels.made_from(one.renders):
        frame = pd.read_parquet(one.labels.path(LABEL_TABLE))
        found = to_array(frame, files, truth.persons)[..., :2] * truth.sizes[:, None]
    scores: dict[str, float] = {}
    if one.accuracy is not None and one.labels is not None and one.accuracy.made_from(one.labels):
        table = pd.read_parquet(one.accuracy.path(ACCURACY_TABLE))
        scores = {str(f): float(v) for f, v in table.groupby("file")["oks"].mean().items()}
    result = []
    for index, record in enumerate(truth.images):
        rows = list(truth.rows_of(index))
        pixels = truth.arrays["pixels"][rows].reshape(-1, 2)
        seen = truth.arrays["visibility"][rows].ravel()
        guesses = np.full_like(pixels, np.nan) if found is None else found[rows].reshape(-1, 2)
        off = np.linalg.norm(guesses - pixels, axis=1)
        names = LANDMARKS * len(rows)
        result.append(
            Look(
                file=record.file,
                frame=record.frame,
                view=record.view,
                width=truth.size_of(index)[0],
                height=truth.size_of(index)[1],
                truth=[
                    Point(n, x, y, int(v))
                    for n, (x, y), v in zip(names, pixels.tolist(), seen, strict=True)
                ],
                found=[
                    Point(n, x, y, 2)
                    for n, (x, y) in zip(names, guesses.tolist(), strict=True)
                    if not np.isnan(x)
                ],
                away=[None if np.isnan(v) else float(v) for v in off],
                oks=scores.get(record.file),
            )
        )
    return result


@dataclass(frozen=True)
class Standing:
    """A variant, and how it stands now."""

    variant: Variant
    state: str


def standings(
    sets: CommittedSets, made: CommittedSet | None, decisions: Decisions
) -> list[Standing]:
    """The variants of a set as they stand; none where they cannot be read, as the run and `store verify` say."""
    if made is None:
        return []
    try:
        locks = locks_of(sets.store, Variant, made.ref.partition)
        variants = [as_locked(v, locks.get(v.variant)) for v in read_variants(made)]
    except (ApprovalError, DamagedObject):
        return []
    return [Standing(v, state_of(v, locks.get(v.variant), decisions.of(v))) for v in variants]


def depth_picture(path: Path) -> bytes:
    """A depth image as people can see it, PNG: near is bright, and the person's own depth spans all greys.

    The file itself holds millimetres in 16 bits, of which a browser shows next to nothing.
    """
    depth = read_depth(path)
    there = depth > 0
    shown = np.zeros(depth.shape, np.uint8)
    if there.any():
        near, far = float(depth[there].min()), float(depth[there].max())
        share = (depth[there] - near) / max(far - near, 1e-6)
        shown[there] = (255 - 195 * share).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "PNG")
    return buffer.getvalue()


def card_of(dataset: CommittedSet) -> str:
    """A dataset's card, Markdown."""
    return dataset.path(CARD).read_text("utf-8")
