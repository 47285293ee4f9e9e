"""From a render to a locked variant: attempts, corrections, states; nothing is paid twice, nothing is lost."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
from pathlib import Path

import pytest

from posefactory_dagster.budget.ledger import Budget, read_ledger
from posefactory_dagster.quality.gate import Gate
from posefactory_dagster.review.approval import locks_of, now, read_decisions, write_decisions
from posefactory_dagster.review.documents import Decision
from posefactory_dagster.settings import VariantSettings
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.variants.batch import INTERRUPTED, NOT_JUDGEABLE, Batch, Unfinished, plan
from posefactory_dagster.variants.documents import Style, Variant, read_style
from posefactory_dagster.variants.enhancers import stability as module
from posefactory_dagster.variants.enhancers.opening import open_enhancer
from posefactory_dagster.variants.render_views import RenderViews
from tests.servers import S3Server
from tests.stability_simulator import StabilitySimulator
from tests.variants.conftest import Make

PAID = read_style("stability_structure")
ALL_VIEWS = ("az_000", "az_090", "az_180", "az_270")


def bytes_of(sets: CommittedSets, variant: Variant) -> bytes:
    assert variant.image is not None
    data = sets.store.get_bytes(variant.image.key)
    assert data is not None and hashlib.sha256(data).hexdigest() == variant.image.sha256
    return data


def test_what_passes_is_locked_with_its_whole_record(
    make: Make, sets: CommittedSets, simulator: StabilitySimulator
) -> None:
    (variant,) = make(PAID)
    assert variant.state == "locked_approved" and variant.kept == 1
    lock = locks_of(sets.store, Variant, "ada")[variant.variant]
    assert lock.record == variant and lock.approved_by == "gate"
    assert lock.image.sha256 == hashlib.sha256(bytes_of(sets, variant)).hexdigest()
    (attempt,) = variant.attempts
    assert attempt.verdict.passes and attempt.cost_usd == attempt.estimate_usd == 0.05
    assert variant.enhancer == {"provider": "stability", "model": "structure", "version": "v2beta"}
    (paid,) = read_ledger(sets.store)[0]
    assert paid.cost_usd == 0.05 and paid.style == PAID.name and paid.run_id == "run-1"


def test_nothing_is_asked_for_again(
    make: Make, sets: CommittedSets, simulator: StabilitySimulator
) -> None:
    first = make(PAID)
    again = make(PAID)
    assert again == first and len(simulator.charges) == 1
    # Even if the lock is gone: the image that was paid for is judged once more.
    sets.store.delete([i.key for i in sets.store.list("locks/")])
    third = make(PAID)
    assert third[0].image == first[0].image and len(simulator.charges) == 1


def test_a_locked_image_is_changed_by_no_setting_and_no_other_style(
    make: Make, sets: CommittedSets, simulator: StabilitySimulator
) -> None:
    (first,) = make(PAID)
    before = bytes_of(sets, first)
    lock = sets.store.get_bytes(f"locks/ada/{first.variant}.json")
    simulator.behaviour = "mirror"
    (same,) = make(PAID, max_attempts=1)
    (other,) = make(PAID.model_copy(update={"strength": 0.9}), max_attempts=1)
    assert same == first and other.variant != first.variant
    assert bytes_of(sets, first) == before
    assert sets.store.get_bytes(f"locks/ada/{first.variant}.json") == lock


def test_a_lost_pose_is_corrected_by_why_and_blocked_in_the_end(
    make: Make, sets: CommittedSets, simulator: StabilitySimulator
) -> None:
    simulator.behaviour = "nudge"
    (variant,) = make(PAID, max_attempts=3)
    assert variant.state == "blocked" and not locks_of(sets.store, Variant, "ada")
    assert [a.verdict.severity for a in variant.attempts] == ["major"] * 3
    one, two, three = (a.parameters for a in variant.attempts)
    assert one.seed + 2 == two.seed + 1 == three.seed
    assert one.strength > two.strength > three.strength
    assert one.control < two.control <= three.control
    assert "exactly the same pose" in two.prompt and two.prompt.startswith(one.prompt)
    assert (
        "joint_moved" in variant.attempts[1].correction
        and "strength" in variant.attempts[1].correction
    )
    assert len(simulator.charges) == len({c.fingerprint for c in simulator.charges}) == 3
    assert (
        len(list(read_ledger(sets.store)[0])) == 3 and variant.image is not None
    )  # for a person to look at


@pytest.mark.parametrize(("behaviour", "code"), [("blank", "nobody"), ("small", "size")])
def test_a_critical_failure_is_not_paid_for_again(
    make: Make, simulator: StabilitySimulator, behaviour: str, code: str
) -> None:
    simulator.behaviour = behaviour
    (variant,) = make(PAID)
    assert variant.state == "blocked" and len(simulator.charges) == 1
    assert code in [r.code for r in variant.verdict.reasons]


def test_content_filters_are_verdicts(make: Make, simulator: StabilitySimulator, sets: CommittedSets) -> None:  # fmt: skip
    simulator.faults.extend(["filtered", "moderated"])
    (spoiled,) = make(PAID)
    assert spoiled.state == "blocked" and "content filter" in spoiled.reasons[0]
    assert next(iter(read_ledger(sets.store)[0])).outcome == "filtered"
    (refused,) = make(PAID.model_copy(update={"prompt": "another"}))
    assert refused.state == "blocked" and refused.image is None
    assert "content_moderation" in " ".join(refused.reasons)
    assert len(simulator.charges) == 1 and len(list(read_ledger(sets.store)[0])) == 1
    make(PAID.model_copy(update={"prompt": "another"}))
    assert simulator.calls == 2  # a refusal is remembered


def test_paid_enhancers_leave_out_what_cannot_be_judged(
    make: Make, simulator: StabilitySimulator
) -> None:
    made = make(PAID, ALL_VIEWS)
    skipped = [v for v in made if v.state == "pending"]
    assert skipped and all(NOT_JUDGEABLE in v.flags and not v.attempts for v in skipped)
    assert len(simulator.charges) == len(made) - len(skipped) > 0
    everything = make(PAID, ALL_VIEWS, skip_unjudgeable=False)
    assert all(v.attempts for v in everything)


def test_an_answer_that_was_lost_is_counted_and_not_asked_for_again_unasked(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets
) -> None:
    simulator.faults.append("drop")
    (lost,) = make(PAID)
    assert lost.state == "failed" and lost.reasons == [INTERRUPTED] and lost.cost_usd == 0.05
    assert [e.outcome for e in read_ledger(sets.store)[0]] == ["unknown"]
    assert make(PAID)[0].state == "failed" and len(simulator.charges) == 1
    (asked,) = make(PAID, retry_interrupted=True)
    assert asked.state == "locked_approved" and asked.kept == 2 and len(simulator.charges) == 2
    assert "asked once more" in asked.attempts[1].correction


def test_what_another_run_is_making_is_left_to_it(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets
) -> None:
    (mine,) = make(PAID)
    sets.store.delete([i.key for i in sets.store.list("locks/")])
    sets.store.delete([i.key for i in sets.store.list("variants/") if "-call" not in i.key])
    with pytest.raises(Unfinished, match="run run-1 is making it"):
        make(PAID, goes_on=lambda run_id: run_id == "run-1")
    assert not [i.key for i in sets.store.list("variants/") if "answer" in i.key]
    assert make(PAID)[0].reasons == [INTERRUPTED] and len(simulator.charges) == 1
    assert mine.state == "locked_approved"


def test_a_batch_that_was_cut_short_goes_on_where_it_was(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    style = PAID.model_copy(update={"count": 6})
    monkeypatch.setattr(module.Stability, "parallel", 1)
    simulator.faults.extend(["", "", "no_credit"])
    with pytest.raises(
        Unfinished, match=r"4 of 6 variants .*no credit is left.*nothing is paid for twice"
    ):
        make(style)
    assert (
        len(simulator.charges) == 2 == len(locks_of(sets.store, Variant, "ada"))
        and simulator.calls == 3
    )
    made = make(style)
    assert [v.state for v in made] == ["locked_approved"] * 6
    assert len(simulator.charges) == 6 == len({c.fingerprint for c in simulator.charges})


def test_the_budget_holds_inside_a_batch(make: Make, simulator: StabilitySimulator) -> None:
    style = PAID.model_copy(update={"count": 6})
    with pytest.raises(Unfinished, match=r"max_cost_per_job = \$0\.12"):
        make(style, max_cost_per_job=0.12)
    assert len(simulator.charges) == 2
    with pytest.raises(Unfinished, match=r"max_cost_per_day = \$0\.16"):
        make(style, max_cost_per_day=0.16)
    assert len(simulator.charges) == 3


def test_as_many_calls_at_once_as_are_of_use(make: Make, simulator: StabilitySimulator) -> None:
    simulator.latency_s = 0.3
    make(PAID.model_copy(update={"count": 16}), max_cost_per_job=10)
    assert simulator.most_at_once >= 8 and not simulator.violations


def test_garbage_that_was_paid_for_is_kept_and_blocked(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets
) -> None:
    simulator.faults.append("garbage")
    (variant,) = make(PAID)
    assert variant.state == "blocked" and bytes_of(sets, variant) == b"no image"
    assert "cannot be decoded" in variant.reasons[0]


@pytest.mark.parametrize(
    ("lie", "words"), [("bomb", "12000 x 12000 pixels"), ("endless", "cannot be decoded")]
)
def test_a_lying_api_costs_its_image_and_no_memory(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets, lie: str, words: str
) -> None:
    simulator.faults.append(lie)
    made = make(PAID.model_copy(update={"count": 2}))
    first, second = sorted(
        made, key=lambda v: v.state != "blocked"
    )  # whichever was asked for first
    assert first.state == "blocked" and words in first.reasons[0]
    assert first.verdict is not None and first.verdict.severity == "critical"
    assert 0 < len(bytes_of(sets, first)) <= 64 * 2**20  # what was paid for is kept
    assert second.state != "blocked" and len(read_ledger(sets.store)[0]) == 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak < 3 * 2**20, "kilobytes"


def test_headers_of_an_api_are_not_believed(make: Make, simulator: StabilitySimulator) -> None:
    simulator.faults.append("seed")
    (variant,) = make(PAID)
    (attempt,) = variant.attempts
    assert attempt.seed == attempt.parameters.seed and variant.image is not None
    said = "".join(map(str, attempt.answer.values()))
    assert "\x1b" not in said and len(said) < 1000


def test_relight_is_free_and_repeatable(make: Make, sets: CommittedSets) -> None:
    style: Style = read_style("places")
    made = make(style, ALL_VIEWS)
    assert {v.state for v in made} <= {"locked_approved", "blocked"}
    assert any(v.state == "locked_approved" for v in made)
    for variant in made:
        if variant.image is not None:
            bytes_of(sets, variant)
    assert not list(read_ledger(sets.store)[0])
    records = [json.loads(v.model_dump_json()) for v in made]
    assert [Variant.model_validate(r) for r in records] == made


@pytest.mark.parametrize("gone", ["answer", "ledger"])
def test_a_kill_between_the_image_and_its_record_loses_nothing(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets, gone: str
) -> None:
    (first,) = make(PAID)
    store = sets.store
    store.delete([i.key for i in store.list("locks/")])
    if gone == "answer":
        store.delete([f"variants/ada/{first.variant}/1-answer.json"])
    store.delete([i.key for i in store.list("ledger/")])
    (again,) = make(PAID)
    assert again.state == "locked_approved" and again.image == first.image
    assert len(simulator.charges) == 1 and simulator.calls == 1
    assert [e.cost_usd for e in read_ledger(store)[0]] == [0.05]
    make(PAID)
    assert len(list(read_ledger(store)[0])) == 1


def test_a_style_that_cannot_go_on_says_why_for_every_character(
    make: Make, simulator: StabilitySimulator
) -> None:
    simulator.faults.append("unauthorized")
    with pytest.raises(Unfinished, match="STABILITY_API_KEY is not accepted"):
        make(PAID, ALL_VIEWS, skip_unjudgeable=False)


def test_what_was_lost_at_the_last_attempt_is_asked_for_again_too(
    make: Make, simulator: StabilitySimulator
) -> None:
    simulator.faults.append("drop")
    assert make(PAID, max_attempts=1)[0].state == "failed"
    (again,) = make(PAID, max_attempts=1, retry_interrupted=True)
    assert again.state == "locked_approved" and again.kept == 2
    simulator.faults.extend(["drop"] * 9)
    (lost,) = make(PAID.model_copy(update={"prompt": "x"}), max_attempts=2, retry_interrupted=True)
    assert lost.state == "failed" and len(lost.attempts) == 4  # not for ever


def test_a_spoiled_image_is_known_as_such_after_a_kill(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets
) -> None:
    simulator.faults.append("filtered")
    (first,) = make(PAID)
    sets.store.delete([f"variants/ada/{first.variant}/1-answer.json"])
    (again,) = make(PAID)
    assert again.state == "blocked" and "content filter" in again.reasons[0]
    assert simulator.calls == 1


def test_what_an_earlier_run_lost_counts_in_the_budget_of_the_day(
    make: Make, simulator: StabilitySimulator, sets: CommittedSets
) -> None:
    style = PAID.model_copy(update={"count": 4})
    simulator.faults.extend(["drop"] * 4)
    make(style)
    sets.store.delete([i.key for i in sets.store.list("ledger/")])
    sets.store.delete(
        [i.key for i in sets.store.list("variants/") if i.key.endswith("answer.json")]
    )
    with pytest.raises(Unfinished, match="max_cost_per_day"):
        make(style, retry_interrupted=True, max_cost_per_day=0.21)
    assert len(simulator.charges) == 4


def test_paid_variants_in_a_bucket(
    render_views: RenderViews, gate: Gate, simulator: StabilitySimulator, moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    """The journal's and the locks' conditional writes, and images fetched by their checksums, where R2 would be."""
    for name, value in moto_s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POSEFACTORY_CACHE", str(tmp_path / "cache"))
    store = open_store(f"r2://{moto_s3.bucket}/variants-{tmp_path.name}")

    def work() -> Variant:
        with contextlib.closing(open_enhancer(PAID)) as enhancer:
            enhancers = {PAID.name: enhancer}
            batch = Batch(
                store, gate, enhancers, VariantSettings(), Budget(store, 1, 1, "run"), "run"
            )
            items = [i for i in plan("ada", render_views, [PAID], enhancers) if i.index == 0]
            return batch.make("ada", render_views, items, lambda done, total: None)[0]

    first = work()
    assert first.state == "locked_approved"
    store.delete([i.key for i in store.list("locks/")])
    store.delete([f"variants/ada/{first.variant}/1-answer.json"])
    again = work()
    assert again.image == first.image and len(simulator.charges) == 1
    assert locks_of(store, Variant, "ada")[first.variant].image == first.image
    assert [e.cost_usd for e in read_ledger(store)[0]] == [0.05]
    write_decisions(store, [Decision(subject="ada", id=first.variant, decision="reject", at=now())])
    assert read_decisions(store).of(again) is not None
