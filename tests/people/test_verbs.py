"""People on the command line, as far as nobody is built."""

from __future__ import annotations

import json

from tests.conftest import Factory


def test_people_are_added_listed_shown_and_removed(factory: Factory) -> None:
    factory.cli("people", "add", "a young woman, jeans", "--name", "mia")
    (factory.root / "otto.yaml").write_text("gender: male\nage: 50\nseed: 4\n")
    factory.cli("people", "add", str(factory.root / "otto.yaml"))
    rows = {r["key"]: r for r in json.loads(factory.cli("people", "list", "--json"))}
    assert set(rows) == {"mia", "otto"} and rows["otto"]["state"] == "not built yet"
    shown = json.loads(factory.cli("people", "show", "otto", "--json"))
    assert shown["person"]["gender"] == "male" and shown["person"]["clothes"]
    assert "another person has this key" in factory.cli("people", "add", "an older man", "--name", "mia", expect=2)  # fmt: skip
    factory.cli("people", "add", "an older man", "--name", "mia", "--replace")
    factory.cli("people", "remove", "mia", "otto")
    assert json.loads(factory.cli("people", "list", "--json")) == []
    assert json.loads(factory.cli("characters", "list", "--json")) == []


def test_a_sample_is_drawn_once_and_again_the_same(factory: Factory) -> None:
    first = json.loads(factory.cli("people", "sample", "5", "--seed", "7", "--json"))
    again = json.loads(factory.cli("people", "sample", "8", "--seed", "7", "--json"))
    assert again[:5] == first and len({r["key"] for r in again}) == 8


def test_what_cannot_be_read_is_told_and_changes_nothing(factory: Factory) -> None:
    (factory.root / "odd.yaml").write_text("gender: [")
    assert "cannot be read as YAML" in factory.cli("people", "add", str(factory.root / "odd.yaml"), expect=2)  # fmt: skip
    (factory.root / "odd.yaml").write_text("height_m: 9")
    assert "height_m" in factory.cli("people", "add", str(factory.root / "odd.yaml"), expect=2)
    assert "nothing in" in factory.cli("people", "add", "qwerty asdf", expect=2)
    assert "not registered" in factory.cli("people", "show", "nobody", expect=2)
    assert json.loads(factory.cli("people", "list", "--json")) == []


def test_a_key_of_an_upload_is_not_taken(factory: Factory) -> None:
    factory.add_sample("ada_walk", "hero")
    assert "a character has this key" in factory.cli("people", "add", "a man", "--name", "hero", expect=2)  # fmt: skip


def test_without_the_builder_a_run_says_how_to_get_it(factory: Factory) -> None:
    from posefactory_dagster.people.making import NEEDED, BuildFailed, check_installed

    try:
        check_installed()
    except BuildFailed as error:
        assert "pip install" in str(error)
        factory.cli("people", "add", "a man", "--name", "max")
        assert "pip install" in factory.cli("run", "max", "--until", "character", expect=1)
    else:
        assert NEEDED  # the builder is here, and tests/people/test_building.py tries it
