"""Names become keys that are safe everywhere, and read one way only."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posefactory_dagster.slugs import SlugError, cast_key, safe_slug


@given(st.text(), st.booleans(), st.integers(1, 80))
def test_slug_is_safe_whatever_goes_in(value: str, dots: bool, length: int) -> None:
    try:
        slug = safe_slug(value, length, dots)
    except SlugError:
        return
    assert re.fullmatch(r"[a-zA-Z0-9_.-]+" if dots else r"[a-zA-Z0-9_-]+", slug)
    assert len(slug) <= length
    assert "__" not in slug and ".." not in slug
    assert slug.strip("_.") == slug


@given(st.text())
def test_slug_of_a_slug_is_itself(value: str) -> None:
    try:
        slug = safe_slug(value)
    except SlugError:
        return
    assert safe_slug(slug) == slug


@pytest.mark.parametrize(
    ("value", "slug"),
    [
        ("Samba Dancing", "Samba_Dancing"),
        ("ybot@kick", "ybot_kick"),
        ("../../etc/passwd", "etcpasswd"),
        ("a__b", "a_b"),
        ("tab\tnew\nline\x00", "tab_new_line"),
    ],
)
def test_known_names(value: str, slug: str) -> None:
    assert safe_slug(value) == slug


@pytest.mark.parametrize("value", ["人物", "Персонаж"])
def test_other_scripts_get_keys(value: str) -> None:
    assert re.fullmatch("[A-Za-z]+", safe_slug(value))


@pytest.mark.parametrize("value", ["", "..", "///", "___", "."])
def test_nothing_left_is_an_error(value: str) -> None:
    with pytest.raises(ValueError):
        safe_slug(value)


def test_a_casts_key_names_skin_and_motion() -> None:
    assert cast_key("ybot", "kick") == "ybot__kick"
