"""Paid calls of enhancers: each made once for all time, set aside in the budget before and entered in the ledger after."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from posefactory_dagster.budget.ledger import Budget, Entry
from posefactory_dagster.review.approval import now
from posefactory_dagster.storage.store import Store
from posefactory_dagster.variants.documents import Parameters, Style, Variant
from posefactory_dagster.variants.enhancers.base import (
    Enhanced,
    Enhancer,
    EnhancerError,
    OutcomeUnknown,
    Refused,
    RenderView,
)
from posefactory_dagster.variants.journal import Call, CallAnswer, Journal, asked_for

INTERRUPTED = (
    "it was asked for and no answer was kept, so it may have been charged; "
    "retry_interrupted = true in posefactory.toml, [variants], asks once more"
)


class PaidCalls:
    """The paid calls of one run.

    Args:
        goes_on: whether another run, by its id, is still at work; what it asked for is left to it.
        stopped: styles that cannot go on, with the reason; read before each call, filled by the caller.
    """

    def __init__(
        self,
        store: Store,
        budget: Budget,
        run_id: str,
        goes_on: Callable[[str], bool],
        stopped: Mapping[str, str],
    ) -> None:
        self._store = store
        self._budget = budget
        self._run_id = run_id
        self._goes_on = goes_on
        self._stopped = stopped

    def close_open(self, character: str, wanted: Sequence[tuple[str, Style, Enhancer]]) -> None:
        """Enter what an earlier run left open, before anything more is spent.

        Args:
            wanted: the variants to be made, each with its style and enhancer.
        """
        paid = [(v, s, e) for v, s, e in wanted if e.paid]
        begun = asked_for(self._store, character) if paid else set()
        for variant, style, enhancer in paid:
            if variant not in begun:
                continue
            journal = Journal(self._store, character, variant)
            for number in itertools.count(1):
                call = journal.call(number)
                if call is None or self._goes_on(call.run_id):
                    break
                self._known(journal, number, call, style, repeatable=enhancer.repeatable)

    def make(
        self,
        variant: Variant,
        style: Style,
        number: int,
        render_view: RenderView,
        parameters: Parameters,
        enhancer: Enhancer,
    ) -> tuple[CallAnswer, bytes | None]:
        """The answer and its image, if it has one; what is in the journal is not asked for again.

        Args:
            number: of the attempt, from 1.

        Raises:
            OverBudget: the price does not fit into what may be spent.
            EnhancerError: nothing came of it and nothing was charged, or another run is at it.
        """
        journal = Journal(self._store, variant.character, variant.variant)
        name = _name(journal, number)
        price = enhancer.price()
        call = journal.call(number)
        if call is not None:
            answer = self._known(journal, number, call, style, repeatable=enhancer.repeatable)
            if answer is not None:
                return answer, journal.image(answer)
            parameters = call.parameters  # nobody was charged: the same is asked for anew
            journal.take_back(number)
        if (why := self._stopped.get(style.name)) is not None:
            raise EnhancerError(why)
        self._budget.set_aside(price)
        call = Call(at=now(), parameters=parameters, estimate_usd=price, run_id=self._run_id)
        if not journal.begin(number, call):
            self._budget.give_back(price)
            raise EnhancerError(f"{name}: another run has just begun to make it")
        started = time.perf_counter()
        try:
            enhanced: Enhanced = enhancer.enhance(render_view, style, call.parameters)
        except OutcomeUnknown:
            answer = journal.close(number, call.lost(INTERRUPTED))
            self._budget.paid(name, _entry(call, answer, name, style, variant.character), price)
            return answer, None
        except Refused as error:
            self._budget.give_back(price)
            refused = CallAnswer(
                parameters=parameters, error=str(error), filtered=True, outcome="filtered"
            )
            return journal.close(number, refused), None
        except EnhancerError:
            self._budget.give_back(price)
            journal.take_back(number)
            raise
        answer = journal.keep(number, call, enhanced, time.perf_counter() - started)
        self._budget.paid(name, _entry(call, answer, name, style, variant.character), price)
        return answer, enhanced.data

    def _known(
        self, journal: Journal, number: int, call: Call, style: Style, *, repeatable: bool
    ) -> CallAnswer | None:
        """What is known of a call that was begun; None if it may simply be made again. The ledger is told."""
        name = _name(journal, number)
        answer = journal.answer(number)
        if answer is None and self._goes_on(call.run_id):
            raise EnhancerError(
                f"{name}: run {call.run_id} is making it; if that is dead, terminate it on the Runs page"
            )
        answer = answer or journal.recover(number, call)
        if answer is None and repeatable:
            return None
        if answer is None:
            answer = journal.close(number, call.lost(INTERRUPTED))
        if answer.cost_usd:  # a run may have been killed before it could enter it
            self._budget.found(name, _entry(call, answer, name, style, journal.character))
        return answer


def _name(journal: Journal, number: int) -> str:
    return f"{journal.variant}-{number}"


def _entry(call: Call, answer: CallAnswer, name: str, style: Style, character: str) -> Entry:
    """What the ledger is told of a call; of the day on which it went out."""
    return Entry(
        at=call.at, provider=style.provider, model=style.model, style=style.name, character=character,
        what=name, cost_usd=answer.cost_usd, estimate_usd=call.estimate_usd, outcome=answer.outcome,
        run_id=call.run_id,
    )  # fmt: skip
