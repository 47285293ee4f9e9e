"""Which split a picture belongs to: drawn by person, so that nobody is in two; by frame where there is one person only.

Persons take their places in the order in which they were registered, so a set that grows moves nobody. Each goes where the
wanted share is missed most; no split stays empty while there are persons enough.

Motions, looks and the backgrounds of variants can be of one split too: each then belongs to that in which it is shown most, and pictures that
show a person of one split in a motion, a look or before a background of another are left out. So a picture never moves from one split to another; it can only leave or come back.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posefactory_dagster.settings import DatasetSettings

SPLITS = ("train", "val", "test")
#: What is drawn where motions and looks are told apart too, and where the backgrounds of variants are besides.
STRICT, STRICTEST = "person, motion and look", "person, motion, look and background"
#: The setting ``split_by = "auto"`` tells them apart where that leaves out at most this share of the pictures.
MOST_LEFT_OUT = 0.1
#: How far a draw may weigh against the shares, in persons; below a half, so that no share is missed by one.
DRAW = 0.45


@dataclass(frozen=True)
class Splits:
    """The split of each key's pictures.

    ``by_key`` holds one split for all pictures of a key. Where there is one person only, ``by_frame`` holds, for each of
    its keys, the split of each frame, and ``by_key`` is empty. ``motions``: of each key, the split of each of its motions; ``looks``: the split of
    each look; both are empty where only persons are told apart. ``backgrounds``: the split of each background of variants, empty where these are not told apart.
    """

    by_key: Mapping[str, str]
    by_frame: Mapping[str, Mapping[int, str]]
    motions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    looks: Mapping[str, str] = field(default_factory=dict)
    backgrounds: Mapping[str, str] = field(default_factory=dict)

    def of(self, key: str, frame: int) -> str:
        """The split of a picture."""
        return self.by_key[key] if key in self.by_key else self.by_frame[key][frame]

    def keeps(self, key: str, look: str) -> bool:
        """Whether a key's pictures in a look stay: whether its motions and the look belong to its own split."""
        if not self.looks:
            return True
        mine = self.by_key[key]
        return self.looks[look] == mine and set(self.motions[key].values()) <= {mine}

    def keeps_before(self, key: str, background: str) -> bool:
        """Whether a key's variants before a background stay; a variant that shows its render's own has none."""
        if not self.backgrounds or not background:
            return True
        return self.backgrounds[background] == self.by_key[key]

    @property
    def unit(self) -> str:
        """What is drawn: ``person``, ``frame``, ``STRICT`` or ``STRICTEST``."""
        if self.looks:
            return STRICTEST if self.backgrounds else STRICT
        return "frame" if self.by_frame else "person"

    def document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        frames = {
            key: {s: sorted(f for f, at in frames.items() if at == s) for s in SPLITS}
            for key, frames in self.by_frame.items()
        }
        document: dict[str, Any] = {"drawn_by": self.unit, "characters": {**self.by_key, **frames}}
        if self.looks:
            motions = {m: s for mine in self.motions.values() for m, s in mine.items()}
            document |= {"motions": motions, "looks": dict(self.looks)}
        if self.backgrounds:
            document["backgrounds"] = dict(self.backgrounds)
        return document


def assign(
    skins: Mapping[str, Sequence[tuple[str, str]]],
    frames: Mapping[str, Sequence[int]],
    settings: DatasetSettings,
) -> Splits:
    """The split of every picture.

    All motions of a skin share its split, and so do keys whose skins are the same file, and all who are in one group.

    Args:
        skins: of each key, in the order of registration, for each of its people the key of the skin and the digest of that file.
        frames: the frames of each key.
    """
    person: dict[str, str] = {}  # of each digest, the skin that was registered first
    # Of each skin's key, that person: its file may have been replaced in one key.
    people: dict[str, str] = {}
    found = {
        key: [people.setdefault(skin, person.setdefault(digest, skin)) for skin, digest in mine]
        for key, mine in skins.items()
    }
    together = _joined(found.values())
    who = {key: together[mine[0]] for key, mine in found.items()}
    persons = list(dict.fromkeys(who.values()))
    if len(persons) == 1:
        by_frame = {key: _frames(frames[key], settings) for key in who}
        if any(len(set(f.values())) > 1 for f in by_frame.values()):
            return Splits({}, by_frame)
    places = _draw(persons, settings)
    return Splits({key: places[name] for key, name in who.items()}, {})


def apart(
    splits: Splits,
    motions: Mapping[str, Sequence[str]],
    pictures: Mapping[str, Mapping[str, int]],
    backgrounds: Mapping[str, Mapping[str, int]],
    settings: DatasetSettings,
) -> Splits:
    """The same, with motions, looks and backgrounds told apart as the settings want it.

    Args:
        motions: of each key, who plays a motion of its own file has none here. pictures: of each key, how many renders there are in each look.
        backgrounds: of each key, how many variants there are before each background.
    """
    if splits.by_frame or settings.split_by == "person":
        return splits
    by_motion: dict[str, dict[str, int]] = {}
    for key, mine in motions.items():
        for motion in mine:
            _count(by_motion.setdefault(motion, {}), splits.by_key[key], sum(pictures[key].values()))  # fmt: skip
    of_motion = _homes(by_motion, settings)
    found = {k: {m: of_motion[m] for m in mine} for k, mine in motions.items()}
    by_look: dict[str, dict[str, int]] = {}
    for key, looks in pictures.items():
        stays = set(found[key].values()) <= {splits.by_key[key]}
        for look, count in looks.items():
            _count(by_look.setdefault(look, {}), splits.by_key[key], count if stays else 0)
    by_background: dict[str, dict[str, int]] = {}
    for key, some in backgrounds.items():
        for background, count in some.items():
            _count(by_background.setdefault(background, {}), splits.by_key[key], count)
    strict = dataclasses.replace(splits, motions=found, looks=_homes(by_look, settings))
    strictest = dataclasses.replace(strict, backgrounds=_homes(by_background, settings))
    if settings.split_by == "all":
        return strictest
    return next((s for s in (strictest, strict) if _cheap(s, pictures, backgrounds)), splits)


def _cheap(
    splits: Splits,
    pictures: Mapping[str, Mapping[str, int]],
    backgrounds: Mapping[str, Mapping[str, int]],
) -> bool:
    """Whether splits leave nearly all pictures in, and none of them is emptied; arguments as of ``apart``."""
    kept = dict.fromkeys(SPLITS, 0.0)
    total = 0
    for key, looks in pictures.items():
        count = sum(looks.values())
        stays = sum(n for look, n in looks.items() if splits.keeps(key, look))
        mine = backgrounds.get(key, {})
        before = sum(n for background, n in mine.items() if splits.keeps_before(key, background))
        # Variants of renders that leave, leave with them.
        kept[splits.by_key[key]] += stays + before * stays / max(count, 1)
        total += count + sum(mine.values())
    emptied = any(not kept[s] for s in set(splits.by_key.values()))
    return not emptied and sum(kept.values()) >= (1 - MOST_LEFT_OUT) * total


def _count(found: dict[str, int], name: str, more: int) -> None:
    found[name] = found.get(name, 0) + more


def _homes(found: Mapping[str, Mapping[str, int]], settings: DatasetSettings) -> dict[str, str]:
    """Of each motion or look the split it belongs to: of those whose people are shown in it about as much as in others, the one that misses most.

    Args:
        found: of each, in the order of registration, how many pictures there are of people of each split.
    """
    shares = {s: share for s, share in _shares(settings).items() if share > 1e-9}
    given = dict.fromkeys(shares, 0.0)
    every = {s: max(1, sum(counts.get(s, 0) for counts in found.values())) for s in shares}
    homes = {}
    for name, counts in found.items():
        rate = {s: counts.get(s, 0) / every[s] for s in shares}
        fitting = [s for s in shares if rate[s] >= 0.5 * max(rate.values())]
        total = sum(given.values()) + sum(counts.values())
        homes[name] = max(fitting, key=lambda s: shares[s] * total - given[s])
        given[homes[name]] += sum(counts.values())
    return homes


def _joined(groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """Of each name the first of all that are in one group with it, directly or through others."""
    first: dict[str, str] = {}
    for names in groups:
        heads = list(dict.fromkeys(first.get(n, n) for n in names))
        for name in names:
            first.setdefault(name, name)
        for name, head in first.items():
            if head in heads:
                first[name] = heads[0]
    return first


def _shares(settings: DatasetSettings) -> dict[str, float]:
    rest = 1.0 - settings.val_fraction - settings.test_fraction
    return {"train": rest, "val": settings.val_fraction, "test": settings.test_fraction}


def _draw(persons: Sequence[str], settings: DatasetSettings) -> dict[str, str]:
    shares = {s: share for s, share in _shares(settings).items() if share > 1e-9}
    counts = dict.fromkeys(shares, 0)
    places = {}
    for number, name in enumerate(persons, start=1):

        def missed(split: str, number: int = number, name: str = name) -> tuple[bool, float]:
            digest = hashlib.sha256(f"{settings.split_seed}:{name}:{split}".encode()).digest()
            draw = int.from_bytes(digest[:8], "big") / 2**64 * DRAW
            empty = counts[split] == 0
            # The empty ones come first, training before the others.
            return empty, (shares[split] * len(shares) if empty else shares[split] * number - counts[split]) + draw  # fmt: skip

        places[name] = max(shares, key=missed)
        counts[places[name]] += 1
    return places


def _frames(frames: Sequence[int], settings: DatasetSettings) -> dict[int, str]:
    """Runs of neighbouring frames, as neighbours look alike: first to train, then to val, the last to test."""
    ordered = sorted(frames)
    shares = _shares(settings)
    sizes = {s: round(shares[s] * len(ordered)) for s in ("val", "test")}
    for split in ("val", "test"):  # none is empty while there are frames enough
        if shares[split] > 1e-9 and not sizes[split] and len(ordered) > 1 + sum(sizes.values()):
            sizes[split] = 1
    train = len(ordered) - sum(sizes.values())
    names = ["train"] * train + ["val"] * sizes["val"] + ["test"] * sizes["test"]
    return dict(zip(ordered, names, strict=True))
