"""What groups are made from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.groups.documents import ASSET, Group, GroupError, read_group
from posefactory_dagster.pipeline.plans import Inputs, NotPlanned
from posefactory_dagster.storage.layout import LayoutError
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, identity_of

#: Raised when arranging means something else, so that every group is arranged anew.
GROUP_VERSION = 1


class GroupPlanner:
    """Plans `group`: a recipe, and its members as they are inspected now. ``recipes`` and ``members`` keep what was planned, by key."""

    asset = ASSET

    def __init__(self, sets: CommittedSets) -> None:
        self._sets = sets
        self.recipes: dict[str, Group] = {}
        self.members: dict[str, list[CommittedSet]] = {}

    def __call__(self, key: str, inputs: Inputs) -> SetRef:
        try:
            group = read_group(self._sets.store, key)
        except (GroupError, LayoutError) as error:
            raise NotPlanned(str(error)) from error
        if group is None:
            raise NotPlanned(f"{key}: no such group; posefactory groups add makes one")
        found = []
        for member in group.members:
            if read_group(self._sets.store, member) is not None:
                raise NotPlanned(f"{key}: {member} is a group itself; name its members instead")
            committed = self._sets.readable(CHARACTER, member)
            if committed is None:
                raise NotPlanned(f"{key}: its member {member} is not inspected yet; materialize `{CHARACTER}` for it first")  # fmt: skip
            found.append(committed)
        self.recipes[key], self.members[key] = group, found
        contents = {"members": [c.ref.identity for c in found], **group.model_dump(mode="json", exclude={"members"})}  # fmt: skip
        return SetRef(ASSET, key, identity_of(ASSET, contents, {"version": GROUP_VERSION}))


def members_of(sets: CommittedSets, keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The characters that must be inspected before the groups ``keys``."""
    groups = _recipes(sets, keys)
    return {CHARACTERS: list(dict.fromkeys(m for g in groups.values() for m in g.members))}


def groups_among(sets: CommittedSets, keys: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The groups that must be arranged before the characters of the same keys."""
    return {ASSET: list(_recipes(sets, keys))}


def _recipes(sets: CommittedSets, keys: Sequence[str]) -> dict[str, Group]:
    found = {}
    for key in keys:
        with contextlib.suppress(GroupError):  # told by the asset that needs it
            if (group := read_group(sets.store, key)) is not None:
                found[key] = group
    return found
