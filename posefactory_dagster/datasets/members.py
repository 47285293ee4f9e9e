"""What a dataset is made of: characters with their committed sets, and the pictures of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blender_scripts.contract import CLIP
from posefactory_dagster.datasets.hygiene import near_duplicates, too_small
from posefactory_dagster.datasets.splits import Splits
from posefactory_dagster.renders.documents import Truth
from posefactory_dagster.settings import DatasetSettings
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.variants.documents import Variant


@dataclass(frozen=True)
class Member:
    """One character: its three committed sets, all made from each other, and its locked variants.

    ``skins``: of each person in its images, the key whose file gives the body, and the digest of that file; ``motions``: the keys of the
    motions that are cast on these. ``varied``: whether its present renders have been through the variants.
    """

    key: str
    skins: tuple[tuple[str, str], ...]
    motions: tuple[str, ...]
    renders: CommittedSet
    labels: CommittedSet
    accuracy: CommittedSet
    variants: tuple[Variant, ...] = ()
    varied: bool = True


#: What reading a document or a table of another shape raises.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


class UnusableMember(ValueError):
    """A character cannot enter a dataset; the others can."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}: {why}")
        self.key = key


class NothingLeft(ValueError):
    """No picture at all may enter a dataset; the text says why."""


@dataclass(frozen=True)
class Picture:
    """One image of a dataset. ``index`` is its place in the truth; ``variant`` is None for a render.

    ``name`` is its path below ``images/``; ``render`` the file name that its mask and depth have. ``empty`` says that nobody
    is in it.
    """

    name: str
    render: str
    split: str
    index: int
    variant: Variant | None
    empty: bool

    @property
    def stable_name(self) -> str:
        """The name without the split, which is the same in every version."""
        return self.name.partition("/")[2]


@dataclass
class LeftOut:
    """How many renders of a dataset's characters are not in it, by reason, and how many variants."""

    empty: int = 0
    small: int = 0
    near_duplicates: int = 0
    split: int = 0
    variants: int = 0


def pictures_of(
    member: Member, truth: Truth, splits: Splits, settings: DatasetSettings, left_out: LeftOut
) -> Iterator[Picture]:
    """The pictures of a member, each render before its variants.

    Args:
        left_out: counts what is not among them.
    """
    by_file: dict[str, list[Variant]] = {}
    for variant in member.variants:
        by_file.setdefault(variant.source.file, []).append(variant)
    count = len(truth.images)
    empty = (np.asarray(truth.arrays["area"]) == 0).reshape(count, -1).all(axis=1)
    small = too_small(truth, settings.min_size).reshape(count, -1)
    nobody_large = ~empty & ((np.asarray(truth.arrays["area"]) == 0).reshape(count, -1) | small).all(axis=1)  # fmt: skip
    same = near_duplicates(truth, settings.near_duplicate)
    # Of a clip every frame stays, however little it differs from the last, and whoever has left it.
    clip = truth.document.settings.frames == CLIP
    for index, record in enumerate(truth.images):
        if not splits.keeps(member.key, record.look):
            left_out.split += 1
            continue
        if empty[index] and not settings.negatives and not clip:
            left_out.empty += 1
            continue
        if nobody_large[index] and not clip:
            left_out.small += 1
            continue
        if same[index] and not clip:
            left_out.near_duplicates += 1
            continue
        render = f"{member.key}__{record.file}"
        split = splits.of(member.key, record.frame)
        yield Picture(f"{split}/{render}", render, split, index, None, bool(empty[index]))
        for variant in by_file.get(record.file, []):
            if not splits.keeps_before(member.key, variant.background):
                left_out.variants += 1
                continue
            name = f"{split}/{variant_name(member.key, variant)}"
            yield Picture(name, render, split, index, variant, bool(empty[index]))


def variant_name(key: str, variant: Variant) -> str:
    """The file name of a variant in a dataset."""
    assert variant.image is not None
    ending = variant.image.key.rpartition(".")[2]
    stem = variant.source.file.removesuffix(".png")
    return f"{key}__{stem}__{variant.style_name}_{variant.variant[:8]}.{ending}"
