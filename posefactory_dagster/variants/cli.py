"""Variants as people look at them: list, show, approve, reject, trace, make again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import getpass
import hashlib
import secrets
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from posefactory_dagster.review.approval import (
    ApprovalError,
    as_locked,
    locks_of,
    parse_decisions,
    read_decisions,
    state_of,
)
from posefactory_dagster.review.documents import Decision, State
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.storage.store import DamagedObject
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    err,
    open_sets,
    out,
    print_error,
    print_table,
    show,
)
from posefactory_dagster.variants.documents import LEAST_LETTERS, Variant, read_variants

#: Of decisions taken together; the rest is counted.
SPELLED_OUT = 10

verbs = typer.Typer(no_args_is_help=True, help="Variants: look, approve, reject.")


@dataclasses.dataclass(frozen=True)
class _Standing:
    variant: Variant
    state: State


def _standings(sets: CommittedSets, characters: Sequence[str]) -> list[_Standing]:
    from posefactory_dagster.variants.variant_sets import current_sets

    decisions = read_decisions(sets.store)
    for fault in decisions.errors.values():
        print_error(fault)
    result = []
    for committed in current_sets(sets, characters):
        try:
            locks = locks_of(sets.store, Variant, committed.ref.partition)
            variants = read_variants(committed)
        except (ApprovalError, DamagedObject) as error:  # the others can be looked at
            print_error(str(error))
            continue
        for made in variants:
            lock = locks.get(made.variant)
            v = as_locked(made, lock)
            result.append(_Standing(v, state_of(v, lock, decisions.of(v))))
    if not result:
        raise CommandError(
            "no variants yet; posefactory run --all --until enhanced_variants makes them"
        )
    return result


@verbs.command("list")
def list_variants(
    characters: Annotated[
        list[str] | None, typer.Argument(help="Character keys; all without.")
    ] = None,
    state: Annotated[str, typer.Option(help="Only of this state, such as blocked.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Variants, how they stand, and why."""
    found = _standings(open_sets(), characters or [])
    rows: list[dict[str, Any]] = [
        {
            "character": s.variant.character,
            "variant": s.variant.variant,
            "file": s.variant.source.file,
            "style": s.variant.style_name,
            "state": s.state,
            "severity": s.variant.verdict and s.variant.verdict.severity,
            "flags": list(s.variant.flags),
            "attempts": len(s.variant.attempts),
            "cost_usd": s.variant.cost_usd,
            "reasons": s.variant.reasons,
        }
        for s in found
        if state in ("", s.state)
    ]

    def print_it() -> None:
        table = Table("character", "variant", "image", "style", "state", "gate", "tries", "why")
        for row in rows:
            table.add_row(
                row["character"], row["variant"][:10], row["file"], row["style"], row["state"],
                row["severity"] or "", str(row["attempts"]), "; ".join(row["reasons"]),
            )  # fmt: skip
        print_table(table, "none")
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["state"]] = counts.get(row["state"], 0) + 1
        out.print(", ".join(f"{n} {name}" for name, n in counts.items()) or "none")

    show(as_json, rows, print_it)


@verbs.command("show")
def show_page(
    character: Annotated[str, typer.Argument(help="A character key.")],
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The page on which a character's variants are looked at, with keys to approve and reject."""
    from posefactory_dagster.variants.variant_sets import PAGE, current_sets

    committed = next(current_sets(open_sets(), [character]), None)
    if committed is None:
        raise CommandError(
            f"{character}: no variants yet; posefactory run {character} --until enhanced_variants makes them"
        )
    page = committed.path(PAGE)
    show(as_json, {"page": str(page)}, lambda: out.print(str(page), soft_wrap=True))
    if browser and not webbrowser.open(page.as_uri()):
        err.print("no browser could be opened; open the file yourself")


def _find(sets: CommittedSets, names: Sequence[str]) -> list[Variant]:
    """Variants by their names or the beginnings of these."""
    everything = [s.variant for s in _standings(sets, [])]
    result = []
    for name in names:
        found = [v for v in everything if v.variant.startswith(name)]
        if len(name) < LEAST_LETTERS or len(found) != 1:
            how = "no such variant" if not found else f"{len(found)} variants begin so"
            raise CommandError(
                f"{name}: {how}; posefactory review list shows them ({LEAST_LETTERS} letters at least)"
            )
        result.append(found[0])
    return result


def _decide(
    chosen: Sequence[Variant], word: str, reason: str, reviewer: str, as_json: bool
) -> None:
    sets = open_sets()
    decisions = [
        Decision(
            kind=v.kind,
            subject=v.subject,
            id=v.id,
            decision=word,  # type: ignore[arg-type]
            sha256=v.image.sha256 if v.image else None,
            reviewer=reviewer or getpass.getuser(),
            reason=reason,
            # To the microsecond: of two decisions within a second the later one holds.
            at=datetime.datetime.now(datetime.UTC),
        )
        for v in chosen
    ]
    _take(sets, decisions, as_json)


def _take(sets: CommittedSets, decisions: Sequence[Decision], as_json: bool) -> None:
    """Keep what can be followed, lock what is approved, and say what cannot be."""
    from posefactory_dagster.variants.variant_sets import take

    taken, faults, key = take(sets, decisions)
    document = {
        "decided": [{"variant": d.id, "decision": d.decision} for d in taken],
        "refused": faults,
        "file": sets.store.address(key) if key else None,
    }

    def print_it() -> None:
        for text in faults:
            print_error(text)
        if taken:
            done = {"approve": "approved", "reject": "rejected"}
            words = ", ".join(f"{d.id[:10]} {done[d.decision]}" for d in taken[:SPELLED_OUT])
            more = f" and {len(taken) - SPELLED_OUT} more" if len(taken) > SPELLED_OUT else ""
            out.print(
                f"{words}{more}; the next dataset version heeds it: posefactory run --all, or the sensor while `make dev` runs",
                soft_wrap=True,
            )

    show(as_json, document, print_it)
    if faults:
        raise typer.Exit(WORK_FAILED)


def _choose(
    names: Sequence[str], state: str, style: str, why: str, characters: Sequence[str], yes: bool
) -> list[Variant]:
    """The variants that are meant: named one by one, or all that stand so."""
    if names:
        if state or style or why or characters:
            raise CommandError(
                "name variants, or choose them by --state, --style, --why and --character"
            )
        return _find(open_sets(), names)
    if not (state or style or why or characters):
        raise CommandError(
            "name variants (posefactory review list shows them), or choose them by --state, --style, --why and --character"
        )
    chosen = [
        s.variant
        for s in _standings(open_sets(), characters)
        if state in ("", s.state)
        and style in ("", s.variant.style_name)
        and (not why or any(why.lower() in reason.lower() for reason in s.variant.reasons))
    ]
    if not chosen:
        raise CommandError("no variant stands so; posefactory review list shows them")
    if not yes and not typer.confirm(f"{len(chosen)} variants; go on?", err=True):
        raise CommandError("nothing was decided")
    return chosen


ReasonOption = Annotated[str, typer.Option(help="Why; needed to approve a critical failure.")]
StateOption = Annotated[str, typer.Option(help="All that stand so, such as blocked.")]
StyleOption = Annotated[str, typer.Option(help="All of this style.")]
WhyOption = Annotated[
    str, typer.Option(help="All of which the gate says this, such as `silhouette`.")
]
CharacterOption = Annotated[list[str] | None, typer.Option(help="All of this character.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask how many are meant.")]
VariantsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Names of variants as `review list` shows them; the first letters do."),
]
ReviewerOption = Annotated[str, typer.Option(help="Who decides; the user of this machine without.")]


@verbs.command("approve")
def approve(
    variants: VariantsArgument = None,
    state: StateOption = "",
    style: StyleOption = "",
    why: WhyOption = "",
    character: CharacterOption = None,
    reason: ReasonOption = "",
    reviewer: ReviewerOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Approve and lock variants: they enter the next dataset version."""
    chosen = _choose(variants or [], state, style, why, character or [], yes)
    _decide(chosen, "approve", reason, reviewer, as_json)


@verbs.command("reject")
def reject(
    variants: VariantsArgument = None,
    state: StateOption = "",
    style: StyleOption = "",
    why: WhyOption = "",
    character: CharacterOption = None,
    reason: ReasonOption = "",
    reviewer: ReviewerOption = "",
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take variants out of the next dataset version, whatever the gate says; their images stay where they are."""
    chosen = _choose(variants or [], state, style, why, character or [], yes)
    _decide(chosen, "reject", reason, reviewer, as_json)


@verbs.command("import")
def import_decisions(
    file: Annotated[Path, typer.Argument(help="What the review page saved.")],
    as_json: JsonOption = False,
) -> None:
    """Take the decisions of a review page."""
    try:
        decisions = parse_decisions(file.read_bytes())
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror or error}") from error
    except ApprovalError as error:
        raise CommandError(f"{file}: {error}") from error
    _take(open_sets(), decisions, as_json)


@verbs.command("remake")
def remake(
    variant: Annotated[str, typer.Argument(help="A variant's name; the first letters do.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    yes: Annotated[bool, typer.Option("--yes", help="Pay without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a variant once more from its record, with the same provider and seed. It replaces nothing."""
    from posefactory_dagster.budget.estimates import OverBudget
    from posefactory_dagster.budget.ledger import Budget
    from posefactory_dagster.variants.enhancers.base import EnhancerError
    from posefactory_dagster.variants.enhancers.opening import open_enhancer
    from posefactory_dagster.variants.remaking import kept_attempt, style_of_record
    from posefactory_dagster.variants.remaking import remake as make_again

    if target.exists() or not target.parent.is_dir():
        fault = "is there already" if target.exists() else "is in no folder that exists"
        raise CommandError(f"{target} {fault}; name another file")
    sets = open_sets()
    (found,) = _find(sets, [variant])
    limits = project_settings().variants
    holder = f"remake-{secrets.token_hex(4)}"
    budget = Budget(sets.store, limits.max_cost_per_job, limits.max_cost_per_day, holder)
    try:
        image = kept_attempt(found).image
        with contextlib.closing(open_enhancer(style_of_record(found))) as enhancer:
            price = enhancer.price()
            asks = enhancer.paid and not yes
            if asks and not typer.confirm(f"it costs ${price:.3f}; go on?", err=True):
                raise CommandError("nothing was asked for")
            made = make_again(sets, found, enhancer, budget)
    except (EnhancerError, OverBudget) as error:
        raise CommandError(str(error)) from error
    finally:
        budget.close()
    target.write_bytes(made.data)
    sha256 = hashlib.sha256(made.data).hexdigest()
    same = image is not None and sha256 == image.sha256
    document = {"file": str(target), "sha256": sha256, "same": same, "cost_usd": price}
    words = "the same bytes" if same else "other bytes; its provider does not repeat itself exactly"
    show(as_json, document, lambda: out.print(f"{target}: {words}", soft_wrap=True))


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(verbs, name="review")
