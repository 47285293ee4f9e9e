"""Descriptions of people: sentences, files, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posefactory_dagster.people.describing import DescriptionError, parse
from posefactory_dagster.people.documents import Person, PersonError, described
from posefactory_dagster.people.sampling import complete, population


def test_a_sentence_becomes_the_fields_that_it_names() -> None:
    found = parse("a tall older woman, athletic, red jacket, grey bun")
    person = found.person
    assert (person.gender, person.body_type, person.hair.style, person.hair.colour) == ("female", "athletic", "bun", "grey")  # fmt: skip
    assert person.age is not None and 62 <= person.age <= 80
    assert person.height_m is not None and person.height_m > 1.66
    assert [(g.kind, g.colour) for g in person.clothes or ()] == [("jacket", "red")]
    assert not found.not_understood


def test_numbers_in_a_sentence_are_taken_as_they_stand() -> None:
    person = parse("man, 42 years old, 1.83 m, 90 kg, blue eyes, blond hair").person
    assert (person.age, person.height_m, person.weight_kg) == (42, 1.83, 90)
    assert (person.eyes, person.hair.colour) == ("blue", "blond")


def test_what_is_not_understood_is_told() -> None:
    found = parse("a young man with a purple cape, on a unicycle")
    assert "cape" in found.not_understood and "unicycle" in found.not_understood


def test_the_same_sentence_and_seed_give_the_same_person() -> None:
    assert parse("a man in jeans", 5).person == parse("a man in jeans", 5).person


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("lorem ipsum dolor", "nothing in"),
        ("", "nothing in"),
        ("a tall short woman", "contradicts"),
        ("a slim heavy man", "contradicts"),
        ("a woman, jeans, skirt", "cannot both be worn"),
        ("a woman in a dress and trousers", "cannot be worn together"),
        ("a man, afro, cap", "does not fit over hair"),
    ],
)
def test_sentences_that_describe_nobody_say_why(sentence: str, said: str) -> None:
    with pytest.raises(DescriptionError, match=said):
        parse(sentence)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"gender": "robot"}, "gender"),
        ({"age": 300}, "age"),
        ({"age": "old"}, "age"),
        ({"height_m": 3.0}, "height_m"),
        ({"height_m": float("nan")}, "height_m"),
        ({"skin": {"tone": 11}}, "skin.tone"),
        ({"tail": True}, "tail"),
        ({"clothes": [{"kind": "toga"}]}, "clothes.0.kind"),
        ({"clothes": [{"kind": "shirt", "piece": "x"}]}, "not both"),
        ({"height_m": 1.9, "weight_kg": 30}, "body mass index"),
        ({"height_m": 1.7, "phenotypes": {"height": 0.4}}, "contradict"),
        ({"age": 8, "skin": {"stubble": 1.0}}, "stubble"),
        ([1, 2], "no description"),
        (None, "no description"),
    ],
)  # fmt: skip
def test_files_out_of_range_name_the_field(values: Any, place: str) -> None:
    with pytest.raises(PersonError, match=place) as raised:
        described(values, "hero.yaml")
    assert "hero.yaml" in str(raised.value)


COVER_THE_CHEST = {"t_shirt", "tank_top", "shirt", "sweater", "hoodie", "dress"}
COVER_THE_HIPS = {"trousers", "jeans", "leggings", "shorts", "skirt", "long_skirt", "dress"}


def test_everybody_wears_something_above_and_below() -> None:
    for person in population(300, 3):
        kinds = {g.kind for g in complete(person).clothes or ()}
        assert kinds & COVER_THE_CHEST and kinds & COVER_THE_HIPS


def test_a_population_has_the_stated_spread() -> None:
    people = [complete(p) for p in population(2000, 1)]
    tones = np.array([p.skin.tone for p in people], float)
    # Even over the Monk scale: nine bands of 222 people, 5 deviations of 14.
    assert np.abs(np.histogram(tones, 9, (1, 10))[0] - 2000 / 9).max() < 75
    men = np.array([p.height_m for p in people if p.gender == "male" and (p.age or 0) < 50], float)
    women = np.array([p.height_m for p in people if p.gender == "female" and (p.age or 0) < 50], float)  # fmt: skip
    assert abs(men.mean() - 1.753) < 0.012 and abs(women.mean() - 1.613) < 0.012
    assert 0.45 < len([p for p in people if p.gender == "male"]) / 2000 < 0.55
    assert len({p.hair.style for p in people}) == 10


def test_a_larger_population_begins_with_the_smaller_one() -> None:
    assert population(50, 7)[:10] == population(10, 7)
    assert population(10, 7) != population(10, 8)


def test_zero_is_a_seed_like_any_other() -> None:
    assert complete(Person(seed=0)) == complete(Person(seed=0)) != complete(Person(seed=1))
