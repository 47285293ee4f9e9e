"""A character's variants: each made, judged, corrected and made again until it passes or a person must look."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from posefactory_dagster.budget.estimates import OverBudget
from posefactory_dagster.budget.ledger import Budget
from posefactory_dagster.quality.gate import Gate, Measurement, Reason, Verdict
from posefactory_dagster.review.approval import BY_CONSTRUCTION, BY_GATE, lock_all, locks_of, now
from posefactory_dagster.review.documents import Lock, State
from posefactory_dagster.settings import VariantSettings
from posefactory_dagster.storage.sets import identity_of
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.corrections import correct
from posefactory_dagster.variants.documents import Attempt, Parameters, PoseVerdict, Style, Variant
from posefactory_dagster.variants.enhancers.base import (
    CannotEnhance,
    Enhancer,
    EnhancerError,
    RenderView,
)
from posefactory_dagster.variants.journal import image_of
from posefactory_dagster.variants.paid import INTERRUPTED, PaidCalls
from posefactory_dagster.variants.render_views import RenderViews

#: Flags of a variant.
NOT_JUDGEABLE = "not_judgeable"
#: On variants that the gate would have refused, and whose pose cannot have moved.
GATE_DISAGREES = "gate_disagrees"


@dataclass(frozen=True)
class Item:
    """One variant to be: the ``index`` of its render_view, its style, and which copy it is."""

    variant: str
    index: int
    style: Style
    copy_number: int


def plan(
    character: str,
    render_views: RenderViews,
    styles: Sequence[Style],
    enhancers: Mapping[str, Enhancer],
) -> list[Item]:
    """All variants of a character. The name of one is a digest of its render, its style's content and its enhancer.

    Groups have none: the gate's limits were measured on one person in an image, and it does not judge several.
    """
    items: list[Item] = []
    if render_views.truth.persons > 1:
        return items
    for style in styles:
        for index, source in enumerate(render_views.sources()):
            for copy in range(style.count):
                made_from = {
                    "character": character,
                    "renders": render_views.renders.ref.identity,
                    "image": source.sha256,
                }
                made_by = {
                    "style": style.content,
                    "enhancer": enhancers[style.name].name,
                    "copy": copy,
                }
                items.append(Item(identity_of("variant", made_from, made_by), index, style, copy))
    return items


class Unfinished(RuntimeError):
    """Some variants could not be made now; what is paid for is kept, and the next run goes on from there."""


@dataclass(frozen=True)
class _Made:
    variant: Variant
    data: bytes | None = None  # of the image that is kept, where the store does not have it yet


class Batch:
    """Makes variants; one for all characters of a run.

    Args:
        enhancers: by style name, each open.
        budget: what may be spent.
        run_id: for the records.
        goes_on: whether another run, by its id, is still at work; what it asked for is left to it.
    """

    def __init__(
        self,
        store: Store,
        gate: Gate,
        enhancers: Mapping[str, Enhancer],
        settings: VariantSettings,
        budget: Budget,
        run_id: str,
        goes_on: Callable[[str], bool] = lambda run_id: False,
    ) -> None:
        self._store = store
        self._gate = gate
        self._enhancers = enhancers
        self._settings = settings
        self._stopped: dict[str, str] = {}  # styles that cannot go on, with the reason
        self._paid = PaidCalls(store, budget, run_id, goes_on, self._stopped)

    def make(
        self,
        character: str,
        render_views: RenderViews,
        items: Sequence[Item],
        tell: Callable[[int, int], None],
    ) -> list[Variant]:
        """Take each item to an end, lock what the gate approves, and return all in the order of ``items``.

        Raises:
            Unfinished: an enhancer or the budget gave out; the text says what is left and why.
        """
        locks = locks_of(self._store, Variant, character)
        todo = [i for i in items if i.variant not in locks]
        self._paid.close_open(
            character, [(i.variant, i.style, self._enhancers[i.style.name]) for i in todo]
        )
        raws = self._look(render_views, sorted({i.index for i in todo}))
        made: dict[str, _Made] = {v: _Made(lock.record) for v, lock in locks.items()}
        troubles: list[str] = []
        done = len(items) - len(todo)

        def work(item: Item) -> None:
            why = self._stopped.get(item.style.name)
            if why is not None:
                troubles.append(why)
                return
            try:
                made[item.variant] = self._make(character, render_views, item, raws[item.index])
            except (CannotEnhance, OverBudget) as error:  # so would the others
                self._stopped.setdefault(item.style.name, str(error))
                troubles.append(str(error))
            except EnhancerError as error:
                troubles.append(str(error))

        for style_name in dict.fromkeys(i.style.name for i in todo):
            mine = [i for i in todo if i.style.name == style_name]
            enhancer = self._enhancers[style_name]
            pool = ThreadPoolExecutor(enhancer.parallel)
            try:
                for _ in pool.map(work, mine):
                    done += 1
                    tell(done, len(items))
            except BaseException:
                self._stopped[style_name] = "interrupted"  # begins nothing more
                if enhancer.paid and enhancer.repeatable:
                    enhancer.close()  # what may be asked for again is not waited for
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        self._keep(made)
        if troubles:
            raise Unfinished(
                f"{len(troubles)} of {len(items)} variants could not be made now ({troubles[0]}); "
                "run it again to go on, nothing is paid for twice"
            )
        locked = {m.variant.variant: m.variant for m in made.values()}
        return [locked[i.variant] for i in items]

    def _look(self, render_views: RenderViews, indices: Sequence[int]) -> dict[int, Measurement]:
        """The gate's opinion of the renders themselves."""

        def look(index: int) -> Measurement:
            return self._gate.look(render_views.read(index).subject)

        with ThreadPoolExecutor(self._gate.parallel) as pool:
            return dict(zip(indices, pool.map(look, indices), strict=True))

    def _keep(self, made: dict[str, _Made]) -> None:
        """Put images of free enhancers in the store, then lock what is approved, in this order."""
        new = {v: m for v, m in made.items() if m.data is not None}
        scratch = self._store.scratch()
        files = {}
        for name, one in new.items():
            assert one.data is not None and one.variant.image is not None
            path = scratch / name
            path.write_bytes(one.data)
            files[one.variant.image.key] = path
        self._store.put_files(files)
        shutil.rmtree(scratch, ignore_errors=True)
        locks = []
        for one in made.values():
            if one.variant.state == "qa_approved":
                locked = one.variant.model_copy(update={"state": "locked_approved"})
                assert locked.image is not None
                by_gate = locked.verdict is not None and locked.verdict.passes
                who = BY_GATE if by_gate else BY_CONSTRUCTION
                locks.append(
                    Lock(image=locked.image, approved_by=who, approved_at=now(), record=locked)
                )
        for lock in lock_all(self._store, locks):
            made[lock.record.variant] = _Made(lock.record)

    def _make(
        self, character: str, render_views: RenderViews, item: Item, raw: Measurement
    ) -> _Made:
        enhancer = self._enhancers[item.style.name]
        source = render_views.sources()[item.index]
        judgeable = self._gate.judgeable(raw)
        variant = Variant(
            variant=item.variant,
            character=character,
            source=source,
            style_name=item.style.name,
            style=item.style.content,
            copy_number=item.copy_number,
            enhancer=enhancer.name,
            flags=() if judgeable else (NOT_JUDGEABLE,),
        )
        if enhancer.paid and not judgeable and self._settings.skip_unjudgeable:
            return _Made(variant)
        render_view = render_views.read(item.index)
        parameters = item.style.parameters(item.variant)
        attempts: list[Attempt] = []
        images: list[bytes | None] = []
        state: State = "blocked"
        correction = ""
        # Lost answers count for nothing, but not for ever.
        while (
            sum(a.error != INTERRUPTED for a in attempts) < self._settings.max_attempts
            and len(attempts) < 2 * self._settings.max_attempts
        ):
            number = len(attempts) + 1
            attempt, data, verdict = self._attempt(
                variant, item.style, number, render_view, raw, parameters
            )
            attempts.append(attempt.model_copy(update={"correction": correction}))
            images.append(data)
            if verdict is None:
                state = "failed"
                if self._settings.retry_interrupted and attempt.error == INTERRUPTED:
                    correction = "asked once more, as the answer was lost"
                    continue
                break
            state = "blocked"
            if verdict.passes or self._gate.reports(item.style.name, enhancer.moves_pose):
                state = "qa_approved"
                break
            if verdict.severity == "critical":
                break
            parameters, correction = correct(parameters, verdict, source.view)
        kept = _best(attempts)
        verdict_kept = attempts[kept - 1].verdict if kept else None
        disagrees = state == "qa_approved" and not (verdict_kept and verdict_kept.passes)
        finished = variant.model_copy(
            update={
                "attempts": tuple(attempts),
                "kept": kept,
                "state": state,
                "flags": (*variant.flags, GATE_DISAGREES) if disagrees else variant.flags,
            }
        )
        return _Made(finished, None if enhancer.paid or not kept else images[kept - 1])

    def _attempt(
        self,
        variant: Variant,
        style: Style,
        number: int,
        render_view: RenderView,
        raw: Measurement,
        parameters: Parameters,
    ) -> tuple[Attempt, bytes | None, Verdict | None]:
        """One try: the record, the image's bytes, and the verdict; no verdict where there is no image."""
        enhancer = self._enhancers[style.name]
        if enhancer.paid:
            answer, data = self._paid.make(
                variant, style, number, render_view, parameters, enhancer
            )
            # An image that is there already was made with what was asked then.
            attempt = Attempt(number=number, **answer.of_attempt())
            filtered = answer.filtered
        else:
            enhanced = enhancer.enhance(render_view, style, parameters)
            data, filtered = enhanced.data, enhanced.filtered
            attempt = Attempt(
                number=number,
                parameters=parameters,
                seed=enhanced.seed,
                image=image_of(variant.character, variant.variant, number, enhanced),
                answer=enhanced.answer,
            )
        if filtered:
            reason = Reason(
                "content_filter", "critical", "the provider's content filter spoiled or refused it"
            )
            verdict = self._gate.refuse(raw, reason)
        elif data is None:
            return attempt, None, None
        else:
            verdict = self._gate.judge(render_view.subject, raw, data)
        said = PoseVerdict.model_validate(verdict.to_dict())
        return attempt.model_copy(update={"verdict": said}), data, verdict


def _best(attempts: Sequence[Attempt]) -> int:
    """The number of the attempt whose image counts: the one that passed, else the nearest to it; 0 without any."""

    def rank(attempt: Attempt) -> tuple[bool, float]:
        verdict = attempt.verdict
        measured = verdict.enhanced if verdict else None
        return bool(verdict and verdict.passes), (measured and measured.oks) or -1.0

    made = [a for a in attempts if a.image is not None]
    return max(made, key=rank).number if made else 0


def states(variants: Sequence[Variant]) -> dict[str, int]:
    """How many variants stand how."""
    counts: dict[str, int] = {}
    for variant in variants:
        counts[variant.state] = counts.get(variant.state, 0) + 1
    return counts


def settings_identity(settings: VariantSettings) -> dict[str, Any]:
    """The settings that change how variants end, and not what they may cost."""
    values = dataclasses.asdict(settings)
    return {k: values[k] for k in ("max_attempts", "skip_unjudgeable", "retry_interrupted")}
