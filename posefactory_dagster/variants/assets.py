"""The asset `enhanced_variants`: images of another look, each with proof that it kept its pose."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import create_model

from blender_scripts.contract import SettingsError
from posefactory_dagster import progress
from posefactory_dagster.budget.estimates import OverBudget
from posefactory_dagster.budget.ledger import Budget
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.compute.resources import RentedPods
from posefactory_dagster.compute.runpod.service import PodService
from posefactory_dagster.diffusion.engine import CannotGenerate
from posefactory_dagster.pictures import thumbnail_markdown
from posefactory_dagster.pipeline.jobs import GROUP
from posefactory_dagster.pipeline.partitions import (
    REFERENCES,
    PartitionLedger,
    check_of,
    partition_set,
    viewer_link,
)
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.quality import model
from posefactory_dagster.quality.gate import Gate, open_landmarkers
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.renders.documents import RenderFacts
from posefactory_dagster.review.approval import ApprovalError
from posefactory_dagster.settings import (
    GateSettings,
    ProjectSettings,
    VariantSettings,
    changed,
    environment,
    launchpad_fields,
    project_settings,
)
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, file_sha256
from posefactory_dagster.variants import variant_sets
from posefactory_dagster.variants.batch import Batch, Unfinished, plan
from posefactory_dagster.variants.documents import ASSET, Style, VariantFacts, read_styles
from posefactory_dagster.variants.enhancers.base import CannotEnhance, Enhancer, EnhancerError
from posefactory_dagster.variants.enhancers.diffusion import pinned_version
from posefactory_dagster.variants.enhancers.opening import open_enhancer
from posefactory_dagster.variants.journal import asked_for
from posefactory_dagster.variants.render_views import RenderViews

#: Of a run, before anything is spent.
ESTIMATE_TAG = "posefactory/variants_estimate_usd"
SURVIVED = "poses_survived"


VariantConfig = create_model(  # type: ignore[call-overload]
    "VariantConfig",
    __base__=dg.Config,
    __doc__="What to make differently from posefactory.toml in this run.",
    **launchpad_fields(
        VariantSettings, ("styles", "max_attempts", "skip_unjudgeable", "retry_interrupted")
    ),
)


@dg.asset(
    partitions_def=partition_set(CHARACTERS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    dagster_type=REFERENCES,
    kinds={"python", "mediapipe"},
    check_specs=[
        check_of(
            ASSET,
            SURVIVED,
            CHARACTERS,
            "Warns when the gate blocks variants, as their pose may have moved.",
        )
    ],
    pool="variants",  # a team's instance limits it, as with renders
    description="Images of another look, each judged against the exact pose; approved ones are locked.",
)
def enhanced_variants(
    context: dg.AssetExecutionContext,
    config: VariantConfig,  # type: ignore[valid-type]
    multi_angle_renders: dict[str, CommittedSet],
    store: StoreResource,
    pods: RentedPods,
    project: ProjectResource,
) -> dg.MaterializeResult:
    """Make what is not made yet, and judge it."""
    overrides = {k: v for k, v in config.model_dump().items() if v is not None}  # type: ignore[attr-defined]
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    with contextlib.ExitStack() as stack:
        makers = _open_makers(stack, context, overrides, project.settings(), sets, pods)

        def shown(committed: CommittedSet) -> dict[str, Any]:
            facts = committed.facts_as(VariantFacts)
            blocked = facts.states.get("blocked", 0)
            fault = f"{blocked} variants are blocked" if blocked else None
            figures = {"variants": facts.variants, "blocked": blocked}
            ledger.check(SURVIVED, committed.ref.partition, fault, **figures)
            return _metadata(committed)

        planned = ledger.plan(makers.planner(), {RENDERS: multi_angle_renders}, shown)
        todo = _readable(ledger, planned, multi_angle_renders)
        if not todo:
            return ledger.close()
        batch = _open_batch(stack, context, sets, todo, makers)
        for key, (ref, renders) in todo.items():
            with ledger.failing_alone(key):
                try:
                    committed = _make(sets, ref, renders, batch, makers)
                except (Unfinished, EnhancerError, ApprovalError) as error:
                    ledger.bad(key, f"{key}: {error}")
                    continue
                facts = committed.facts_as(VariantFacts)
                if renders.facts_as(RenderFacts).persons > 1 and makers.styles:
                    context.log.info(f"{key}: a group has no variants, as the gate does not judge several people")  # fmt: skip
                context.log.info(f"{key}: {facts.states}, ${facts.cost_usd:.4f}")
                ledger.good(key, ref, shown(committed))
        return ledger.close()


@dataclasses.dataclass(frozen=True)
class _Makers:
    """What a run makes variants with: the styles, each style's open enhancer, the gate's model, and the settings of both.

    ``service`` makes images on a pod, where enhancers run there; ``min_confidence`` of MediaPipe's detections.
    """

    settings: VariantSettings
    gate: GateSettings
    styles: Sequence[Style]
    enhancers: Mapping[str, Enhancer]
    service: PodService | None
    model: Path
    min_confidence: float

    def planner(self) -> variant_sets.VariantPlanner:
        names = {style: enhancer.name for style, enhancer in self.enhancers.items()}
        sha256 = file_sha256(self.model)
        return variant_sets.VariantPlanner(self.styles, names, sha256, self.settings, self.gate)


def _open_makers(
    stack: contextlib.ExitStack,
    context: dg.AssetExecutionContext,
    overrides: Mapping[str, Any],
    project: ProjectSettings,
    sets: CommittedSets,
    pods: RentedPods,
) -> _Makers:
    """Open what makes variants, to be closed with ``stack``.

    Raises:
        dagster.Failure: settings, a style, an enhancer or the model is not what it must be.
    """
    try:
        settings = changed(project.variants, **overrides)
        styles = read_styles(settings.styles)
        task = model.model_path()
        service = None
        if environment().enhance_on == "pod":
            # Closed, it also ends a held pod for which there is nothing to do.
            service = pods.service(context, sets.store, pinned_version())
            stack.enter_context(contextlib.closing(service))
        enhancers = {
            s.name: stack.enter_context(contextlib.closing(open_enhancer(s, service)))
            for s in styles
        }
        _check_reports(enhancers, project.gate)
    except (SettingsError, EnhancerError, model.ModelError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    confidence = project.labels.min_detection_confidence
    return _Makers(settings, project.gate, styles, enhancers, service, task, confidence)


def _readable(
    ledger: PartitionLedger,
    planned: Mapping[str, SetRef],
    renders: Mapping[str, CommittedSet],
) -> dict[str, tuple[SetRef, CommittedSet]]:
    """The keys whose renders can be read; damaged ones are told before any cost is reckoned."""
    todo = {}
    for key, ref in planned.items():
        with ledger.failing_alone(key):
            try:
                RenderViews.of(renders[key])
                todo[key] = (ref, renders[key])
            except CannotEnhance as error:
                ledger.bad(key, str(error))
    return todo


def _open_batch(
    stack: contextlib.ExitStack,
    context: dg.AssetExecutionContext,
    sets: CommittedSets,
    todo: Mapping[str, tuple[SetRef, CommittedSet]],
    makers: _Makers,
) -> Batch:
    """A batch within its budget, with an open gate.

    Raises:
        dagster.Failure: the run would cost too much, or an enhancer cannot be used.
    """

    def ended(run_id: str) -> bool:
        run = context.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    def goes_on(run_id: str) -> bool:
        known = run_id != context.run_id and context.instance.has_run(run_id)
        return known and not ended(run_id)

    limits = makers.settings.max_cost_per_job, makers.settings.max_cost_per_day
    budget = Budget(sets.store, *limits, context.run_id, ended)
    stack.callback(budget.close)
    _check_costs(context, sets, todo, makers, budget)
    landmarkers = stack.enter_context(open_landmarkers(makers.model, makers.min_confidence))
    return Batch(
        sets.store,
        Gate(landmarkers, makers.gate),
        makers.enhancers,
        makers.settings,
        budget,
        context.run_id,
        goes_on,
    )


def _check_reports(enhancers: Mapping[str, Enhancer], settings: GateSettings) -> None:
    moving = [s for s in settings.report if s in enhancers and enhancers[s].moves_pose]
    if moving:
        raise SettingsError(
            f"[gate] report: {', '.join(moving)} may move the pose, so what the gate refuses stays out"
        )


def variant_planner(model_sha256: str) -> variant_sets.VariantPlanner:
    """The planner of `enhanced_variants` with the present settings.

    Raises:
        SettingsError: a style is none, or who makes it is not at hand.
    """
    settings, gate_settings = project_settings().variants, project_settings().gate
    styles = read_styles(settings.styles)
    names = {}
    for style in styles:
        try:
            with contextlib.closing(open_enhancer(style)) as enhancer:
                names[style.name] = enhancer.name
        except EnhancerError as error:
            raise SettingsError(f"style {style.name}: {error}") from error
    return variant_sets.VariantPlanner(styles, names, model_sha256, settings, gate_settings)


def _check_costs(
    context: dg.AssetExecutionContext,
    sets: CommittedSets,
    todo: Mapping[str, tuple[SetRef, CommittedSet]],
    makers: _Makers,
    budget: Budget,
) -> None:
    """Say what the run will cost before anything is spent, and refuse what is too much."""
    settings = makers.settings
    try:
        prices, on_pods = _prices(sets, todo, makers)
        if not prices:
            return
        estimate = sum(prices)
        if makers.service is not None and on_pods:
            seconds = 3600 * sum(on_pods) / makers.service.per_hour()
            estimate += makers.service.expect(len(on_pods), seconds) - sum(on_pods)
        _tell_costs(context, len(prices), estimate, settings.max_attempts)
        if len(prices) > settings.max_images_per_batch:
            raise OverBudget(
                f"{len(prices)} images are asked for, over max_images_per_batch = {settings.max_images_per_batch}; nothing "
                "was started. Take fewer characters or styles, or raise it in posefactory.toml, [variants]"
            )
        budget.check(estimate)
    except (OverBudget, CannotGenerate, EnhancerError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    if estimate >= settings.warn_cost:
        context.log.warning(
            f"{len(prices)} images are estimated at ${estimate:.2f}, over warn_cost = ${settings.warn_cost:.2f}"
        )


def _prices(
    sets: CommittedSets, todo: Mapping[str, tuple[SetRef, CommittedSet]], makers: _Makers
) -> tuple[list[float], list[float]]:
    """What each image that is yet to be paid for costs by estimate, US dollars; and those of them that pods make.

    Raises:
        EnhancerError: an enhancer cannot make images of that size.
    """
    prices, on_pods = [], []
    priced = [style for style in makers.styles if makers.enhancers[style.name].paid]
    for key, (_, renders) in todo.items():
        render_views = RenderViews.of(renders)
        for style in makers.styles:
            try:
                for size in render_views.sizes:
                    makers.enhancers[style.name].check(size)
            except EnhancerError as error:
                raise EnhancerError(f"style {style.name}: {error}") from error
        # What was asked for is paid, whatever came of it; locked variants of paid styles are among these.
        begun = asked_for(sets.store, key) if priced else set()
        for item in plan(key, render_views, priced, makers.enhancers):
            if item.variant not in begun:
                price = makers.enhancers[item.style.name].price()
                prices.append(price)
                if item.style.made_by.needs_gpu:
                    on_pods.append(price)
    return prices, on_pods


def _tell_costs(
    context: dg.AssetExecutionContext, images: int, estimate: float, attempts: int
) -> None:
    context.instance.add_run_tags(context.run_id, {ESTIMATE_TAG: f"{estimate:.4f}"})
    context.log_event(
        dg.AssetObservation(
            context.asset_key,
            description="What the run will cost, before anything is spent",
            metadata={
                "images": images,
                "estimate_usd": estimate,
                "at_most_usd": estimate * attempts,
            },
        )
    )


def _make(
    sets: CommittedSets, ref: SetRef, renders: CommittedSet, batch: Batch, makers: _Makers
) -> CommittedSet:
    render_views = RenderViews.of(renders)
    items = plan(ref.partition, render_views, makers.styles, makers.enhancers)
    variants = batch.make(
        ref.partition,
        render_views,
        items,
        lambda done, total: progress.tell(f"enhance {ref.partition} image", done, total),
    )
    with sets.scratch() as scratch:
        facts = variant_sets.write(scratch, sets.store, render_views, variants)
        return sets.commit(
            ref,
            scratch,
            inputs={"sets": [dataclasses.astuple(renders.ref)]},
            settings={
                **dataclasses.asdict(makers.settings),
                "gate": dataclasses.asdict(makers.gate),
            },
            facts=facts.model_dump(),
        )


def _metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts_as(VariantFacts)
    return {
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(variant_sets.STRIP), 416)),
        "review": viewer_link(committed.ref.partition, "review"),
        "review_page": _page(committed),
        "variants": facts.variants,
        **facts.states,
        "not_judgeable": facts.not_judgeable,
        "severities": dg.MetadataValue.json(facts.severities),
        "attempts": facts.attempts,
        "styles": ", ".join(facts.styles),
        "cost_usd": facts.cost_usd,
        "identity": committed.ref.identity,
    }


def _page(committed: CommittedSet) -> dg.MetadataValue:
    """Where the review page is. No signed address: the event log would keep it, and `review show` fetches it."""
    return dg.MetadataValue.path(committed.address(variant_sets.PAGE))
