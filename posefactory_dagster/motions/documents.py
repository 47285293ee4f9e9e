"""What the room `motions` says to others: its assets and partition sets, and the recipes of casts."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, ValidationError

from posefactory_dagster.characters.documents import CharacterFacts
from posefactory_dagster.intake.uploads import UploadError
from posefactory_dagster.slugs import cast_key
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet
from posefactory_dagster.storage.store import Store

#: The assets, and the partition sets of the same names.
MOTION, CAST = "motion", "cast"
#: The file of a cast's set.
RECIPE = "recipe.json"


class RecipeError(UploadError):
    """A recipe that is none; the text names it and the next step."""


class Recipe(BaseModel):
    """Who does what: a skin, by its key among the characters, does a motion, by its key among the motions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    skin: str
    motion: str

    @property
    def key(self) -> str:
        """The cast's key, among the casts and among the characters."""
        return cast_key(self.skin, self.motion)


def read_recipe(store: Store, key: str) -> Recipe | None:
    """The recipe of a cast; None if there is none of that key.

    Raises:
        RecipeError: what is there is no recipe, or another's.
    """
    data = store.get_bytes(layout.recipe(key)) if layout.is_part(key) else None
    if data is None:
        return None
    try:
        recipe = Recipe.model_validate_json(data)
    except ValidationError as error:
        raise RecipeError(f"{key}: its recipe cannot be read ({error.error_count()} faults); cast it again") from error  # fmt: skip
    if recipe.key != key:
        raise RecipeError(f"{key}: its recipe is that of {recipe.key}; cast it again")
    return recipe


def recipe_marks(store: Store) -> Iterator[tuple[str, str]]:
    """The keys of all casts that have a recipe, each with a mark that changes with it."""
    for item in store.list(layout.CASTS):
        if (key := layout.parse_recipe(item.key)) is not None:
            yield key, item.mark


def recipe_of(cast: CommittedSet) -> Recipe:
    """The recipe that a committed cast was made by."""
    return Recipe(skin=str(cast.inputs["skin"]["key"]), motion=str(cast.inputs["motion"]["key"]))


FACTS = {MOTION: CharacterFacts}
