"""Stability's calls against a server that checks each field, and every answer that it can give."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from blender_scripts.contract import SettingsError
from posefactory_dagster.variants.documents import Parameters, read_style
from posefactory_dagster.variants.enhancers import stability as module
from posefactory_dagster.variants.enhancers.base import (
    CannotEnhance,
    Enhanced,
    EnhancerError,
    OutcomeUnknown,
    Refused,
)
from posefactory_dagster.variants.enhancers.opening import open_enhancer
from posefactory_dagster.variants.enhancers.stability import Stability
from posefactory_dagster.variants.render_views import RenderViews
from tests.stability_simulator import KEY, StabilitySimulator

STYLES = ("stability_structure", "stability_sketch", "stability_sdxl")


def ask(
    render_views: RenderViews, style_name: str = "stability_structure", **parameters: object
) -> Enhanced:
    style = read_style(style_name)
    enhancer = Stability(style.provider, style.model, timed_out_s=0.1)  # type: ignore[arg-type]
    enhancer.check(render_views.truth.size_of(0))
    asked = style.parameters("0123456789").model_copy(update=parameters)
    try:
        return enhancer.enhance(render_views.read(0), style, asked)
    finally:
        enhancer.close()


@pytest.mark.parametrize("style", STYLES)
def test_requests_keep_to_the_published_schema(
    render_views: RenderViews, simulator: StabilitySimulator, style: str
) -> None:
    made = ask(render_views, style, seed=42)
    assert not simulator.violations
    assert simulator.charges[0].endpoint.rpartition("/")[2] in (
        "structure",
        "sketch",
        "image-to-image",
    )
    assert made.seed == 42 and made.answer["finish-reason"] == "SUCCESS"
    with Image.open(io.BytesIO(made.data)) as image:
        assert image.size == render_views.truth.size_of(0)
    price = open_enhancer(read_style(style)).price()
    assert price == simulator.charges[0].price


def test_the_longest_prompts_and_the_edges_of_all_ranges_are_allowed(
    render_views: RenderViews, simulator: StabilitySimulator
) -> None:
    words = "a" * 10_000
    for seed, control in ((1, 0.0), (2**32 - 2, 1.0)):
        ask(render_views, prompt=words, negative_prompt=words, seed=seed, control=control)
    assert len(simulator.charges) == 2 and not simulator.violations


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("bad_request", CannotEnhance, "400 bad_request: some-field"),
        ("unauthorized", CannotEnhance, "STABILITY_API_KEY is not accepted"),
        ("no_credit", CannotEnhance, "no credit is left"),
        ("no_balance", CannotEnhance, "no credit is left"),
        ("moderated", Refused, "content_moderation"),
        ("forbidden", CannotEnhance, "may not use this endpoint"),
        ("not_found", CannotEnhance, "404"),
        ("too_large", EnhancerError, "smaller size"),
        ("language", CannotEnhance, "English is the only"),
        ("public_figure", Refused, "public figure"),
        ("html", OutcomeUnknown, "502"),
        ("drop", OutcomeUnknown, "gave no answer"),
    ],
)
def test_every_answer_code_is_a_clear_error_and_is_not_repeated(
    render_views: RenderViews,
    simulator: StabilitySimulator,
    fault: str,
    kind: type[EnhancerError],
    words: str,
) -> None:
    simulator.faults.append(fault)
    with pytest.raises(EnhancerError, match=words) as caught:
        ask(render_views)
    assert type(caught.value) is kind
    assert simulator.calls == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("fault", ["internal", "too_many"])
def test_what_was_certainly_not_charged_is_tried_again(
    render_views: RenderViews,
    simulator: StabilitySimulator,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_waiting", lambda state: 0.01)
    simulator.faults.extend([fault, fault])
    ask(render_views)
    assert simulator.calls == 3 and len(simulator.charges) == 1
    simulator.faults.extend([fault] * 5)
    with pytest.raises(EnhancerError):
        ask(render_views)
    assert simulator.calls == 8 and len(simulator.charges) == 1


def test_a_server_that_is_not_there_is_said_to_be_so(
    render_views: RenderViews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_waiting", lambda state: 0.01)
    monkeypatch.setenv("STABILITY_API_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("STABILITY_API_KEY", KEY)
    with pytest.raises(EnhancerError, match="cannot be reached"):
        ask(render_views)


def test_an_answer_that_never_comes_may_have_been_charged(
    render_views: RenderViews, simulator: StabilitySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.2)
    simulator.latency_s = 1.0
    with pytest.raises(OutcomeUnknown):
        ask(render_views)


def test_a_filtered_image_is_told_as_such(
    render_views: RenderViews, simulator: StabilitySimulator
) -> None:
    simulator.faults.append("filtered")
    assert ask(render_views).filtered


def test_without_a_key_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("stability", "dreamstudio"):
        monkeypatch.delenv(f"{provider.upper()}_API_KEY", raising=False)
        with pytest.raises(CannotEnhance, match=f"{provider.upper()}_API_KEY is not set"):
            Stability(provider, "structure")  # type: ignore[arg-type]


def test_dreamstudio_is_the_same_with_a_key_of_its_own(
    render_views: RenderViews, simulator: StabilitySimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STABILITY_API_KEY")
    monkeypatch.setenv("DREAMSTUDIO_API_KEY", KEY)
    enhancer = Stability("dreamstudio", "sdxl_1_0")
    style = read_style("stability_sdxl").model_copy(update={"provider": "dreamstudio"})
    asked = Parameters(prompt="a person", strength=0.4, control=0.5, seed=3)
    assert enhancer.enhance(render_views.read(0), style, asked).data
    assert len(simulator.charges) == 1 and not simulator.violations


@pytest.mark.parametrize(
    ("model", "size", "words"),
    [
        ("structure", (63, 512), "sides of 64 and more"),
        ("structure", (2560, 1000), "1 : 2.5"),
        ("structure", (4096, 4096), "9437184"),
        ("sdxl_1_0", (512, 480), "1024 x 1024"),
    ],
)
def test_sizes_are_checked_before_a_call(
    simulator: StabilitySimulator, model: str, size: tuple[int, int], words: str
) -> None:
    enhancer = Stability("stability", model)
    with pytest.raises(CannotEnhance, match=words):
        enhancer.check(size)
    enhancer.check((512, 512))
    assert simulator.calls == 0


def test_a_model_without_an_endpoint_is_not_called(simulator: StabilitySimulator) -> None:
    with pytest.raises(CannotEnhance, match="is called for structure, sketch, sdxl_1_0"):
        Stability("stability", "sd_1_5")
    with pytest.raises(SettingsError):
        read_style("stability_sd_1_5")


def test_the_simulator_refuses_what_the_schema_does_not_have(simulator: StabilitySimulator) -> None:
    """A check that cannot fail proves nothing."""
    import httpx

    from tests.stability_simulator import make

    buffer = io.BytesIO()
    Image.new("RGB", (256, 256)).save(buffer, "PNG")
    png = make(buffer.getvalue(), "tint")
    good = {"prompt": "a person", "seed": "1"}
    for wrong in (
        {"prompt": ""}, {"seed": "-1"}, {"seed": "4294967295"}, {"control_strength": "1.1"},
        {"aspect_ratio": "1:1"}, {"output_format": "gif"}, {"seed": "one"},
    ):  # fmt: skip
        answer = httpx.post(
            f"{simulator.address}/v2beta/stable-image/control/structure",
            data={**good, **wrong},
            files={"image": ("r.png", png, "image/png")},
            headers={"authorization": f"Bearer {KEY}", "accept": "image/*"},
        )
        assert answer.status_code == 400, wrong
    assert not simulator.charges


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}\r\n"])
def test_a_key_from_a_file_may_end_in_a_newline(
    render_views: RenderViews,
    simulator: StabilitySimulator,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    monkeypatch.setenv("STABILITY_API_KEY", key)
    assert ask(render_views).data


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("STABILITY_API_KEY", "sk-schlüssel", "holds what no key holds"),
        ("STABILITY_API_KEY", "sk-a b", "holds what no key holds"),
        ("STABILITY_API_BASE_URL", "api.stability.ai", "give it with https://"),
    ],
)
def test_what_cannot_be_sent_is_not_taken_for_paid(
    simulator: StabilitySimulator,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CannotEnhance, match=words) as caught:
        Stability("stability", "structure")
    assert "schlüssel" not in str(caught.value)
