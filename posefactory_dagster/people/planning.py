"""What people are made from."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence

from posefactory_dagster.motions.documents import RecipeError, read_recipe
from posefactory_dagster.people.documents import ASSET, Person, PersonError, read_person
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.sets import CommittedSets, SetRef, identity_of
from posefactory_dagster.storage.store import Store

#: Raised when building people means something else, so that everybody is built anew.
BUILD_VERSION = 3


class PersonPlanner:
    """Plans `person`: a description, and the wardrobe's pieces that it names. ``people`` keeps what was planned, by key."""

    asset = ASSET

    def __init__(self, sets: CommittedSets) -> None:
        self._store = sets.store
        self.people: dict[str, Person] = {}

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            person = read_person(self._store, key)
        except (PersonError, LayoutError) as error:
            raise NotPlanned(str(error)) from error
        if person is None:
            raise NotPlanned(f"{key}: no such person; posefactory people add describes one")
        self.people[key] = person
        contents = {"person": person.model_dump(mode="json", exclude_none=True)}
        if pieces := worn_pieces(person):
            contents["wardrobe"] = {n: piece_digest(self._store, n) for n in pieces}
        return SetRef(ASSET, key, identity_of(ASSET, contents, {"build_version": BUILD_VERSION}))


def worn_pieces(person: Person) -> list[str]:
    """The pieces of the wardrobe that a description names."""
    named = [g.piece for g in person.clothes or ()]
    named += [person.shoes.piece if person.shoes else None, person.hair.piece]
    return sorted({name for name in named if name})


def piece_digest(store: Store, piece: str) -> str:
    """A digest of a piece's files; of nothing where it is not there, which its building then says."""
    try:
        listed = sorted((i.key, i.mark, i.size) for i in store.list(layout.wardrobe_piece(piece)))
    except LayoutError as error:
        raise NotPlanned(f"{piece!r} is no name of a piece of the wardrobe") from error
    return hashlib.sha256(repr(listed).encode()).hexdigest()


def people_among(sets: CommittedSets, keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The people that must be built before characters or casts: themselves, and the skins of casts."""
    found = []
    for key in keys:
        skin = key
        with contextlib.suppress(RecipeError):
            if (recipe := read_recipe(sets.store, key)) is not None:
                skin = recipe.skin
        if layout.is_part(skin) and sets.store.get_bytes(layout.person_record(skin)) is not None:
            found.append(skin)
    return {ASSET: found}
