"""The asset `enhanced_variants`: images of another look, each with proof that it kept its pose."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
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
from posefactory_dagster.review.approval import ApprovalError
from posefactory_dagster.settings import (
    GateSettings,
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
from posefactory_dagster.variants.documents import ASSET, Style, read_styles
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
    chosen = project.settings()
    with contextlib.ExitStack() as stack:
        try:
            settings = changed(chosen.variants, **overrides)
            gate_settings = chosen.gate
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
            _check_reports(enhancers, gate_settings)
        except (SettingsError, EnhancerError, model.ModelError) as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        sha256 = file_sha256(task)
        ledger = PartitionLedger(context, sets)
        names = {s: e.name for s, e in enhancers.items()}
        planner = variant_sets.VariantPlanner(styles, names, sha256, settings, gate_settings)
        todo: dict[str, tuple[SetRef, CommittedSet]] = {}

        def shown(committed: CommittedSet) -> dict[str, Any]:
            blocked = committed.facts["states"].get("blocked", 0)
            fault = f"{blocked} variants are blocked" if blocked else None
            figures = {"variants": committed.facts["variants"], "blocked": blocked}
            ledger.check(SURVIVED, committed.ref.partition, fault, **figures)
            return _metadata(committed)

        planned = ledger.plan(planner, {RENDERS: multi_angle_renders}, shown)
        for key, ref in planned.items():
            with ledger.failing_alone(key):
                try:
                    RenderViews.of(
                        multi_angle_renders[key]
                    )  # damaged ones are told before any cost is reckoned
                    todo[key] = (ref, multi_angle_renders[key])
                except CannotEnhance as error:
                    ledger.bad(key, str(error))
        if not todo:
            return ledger.close()

        def ended(run_id: str) -> bool:
            run = context.instance.get_run_by_id(run_id)
            return run is not None and run.is_finished

        limits = settings.max_cost_per_job, settings.max_cost_per_day
        budget = Budget(sets.store, *limits, context.run_id, ended)
        stack.callback(budget.close)
        _check_costs(context, sets, todo, styles, enhancers, settings, budget, service)
        landmarkers = stack.enter_context(
            open_landmarkers(task, chosen.labels.min_detection_confidence)
        )
        gate = Gate(landmarkers, gate_settings)

        def goes_on(run_id: str) -> bool:
            known = run_id != context.run_id and context.instance.has_run(run_id)
            return known and not ended(run_id)

        batch = Batch(sets.store, gate, enhancers, settings, budget, context.run_id, goes_on)
        for key, (ref, renders) in todo.items():
            with ledger.failing_alone(key):
                try:
                    committed = _make(
                        sets, ref, renders, batch, styles, enhancers, settings, gate_settings
                    )
                except (Unfinished, EnhancerError, ApprovalError) as error:
                    ledger.bad(key, f"{key}: {error}")
                    continue
                context.log.info(
                    f"{key}: {committed.facts['states']}, ${committed.facts['cost_usd']:.4f}"
                )
                ledger.good(key, ref, shown(committed))
        return ledger.close()


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
    styles: Sequence[Style],
    enhancers: Mapping[str, Enhancer],
    settings: VariantSettings,
    budget: Budget,
    service: PodService | None,
) -> None:
    """Say what the run will cost before anything is spent, and refuse what is too much."""
    estimate, paid = 0.0, 0
    on_pods: list[float] = []
    priced = [style for style in styles if enhancers[style.name].paid]
    for key, (_, renders) in todo.items():
        render_views = RenderViews.of(renders)
        for style in styles:
            try:
                enhancers[style.name].check(render_views.size)
            except EnhancerError as error:
                raise dg.Failure(
                    description=f"style {style.name}: {error}", allow_retries=False
                ) from error
        # What was asked for is paid, whatever came of it; locked variants of paid styles are among these.
        begun = asked_for(sets.store, key) if priced else set()
        new = [i for i in plan(key, render_views, priced, enhancers) if i.variant not in begun]
        paid += len(new)
        for item in new:
            price = enhancers[item.style.name].price()
            estimate += price
            if item.style.made_by.needs_gpu:
                on_pods.append(price)
    if not paid:
        return
    try:
        if service is not None and on_pods:
            seconds = 3600 * sum(on_pods) / service.per_hour()
            estimate += service.expect(len(on_pods), seconds) - sum(on_pods)
    except (OverBudget, CannotGenerate) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    context.instance.add_run_tags(context.run_id, {ESTIMATE_TAG: f"{estimate:.4f}"})
    context.log_event(
        dg.AssetObservation(
            context.asset_key,
            description="What the run will cost, before anything is spent",
            metadata={
                "images": paid,
                "estimate_usd": estimate,
                "at_most_usd": estimate * settings.max_attempts,
            },
        )
    )
    try:
        if paid > settings.max_images_per_batch:
            raise OverBudget(
                f"{paid} images are asked for, over max_images_per_batch = {settings.max_images_per_batch}; nothing was "
                "started. Take fewer characters or styles, or raise it in posefactory.toml, [variants]"
            )
        budget.check(estimate)
    except OverBudget as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    if estimate >= settings.warn_cost:
        context.log.warning(
            f"{paid} images are estimated at ${estimate:.2f}, over warn_cost = ${settings.warn_cost:.2f}"
        )


def _make(
    sets: CommittedSets,
    ref: SetRef,
    renders: CommittedSet,
    batch: Batch,
    styles: Sequence[Style],
    enhancers: Mapping[str, Enhancer],
    settings: VariantSettings,
    gate_settings: GateSettings,
) -> CommittedSet:
    render_views = RenderViews.of(renders)
    items = plan(ref.partition, render_views, styles, enhancers)
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
                **dataclasses.asdict(settings),
                "gate": dataclasses.asdict(gate_settings),
            },
            facts=facts,
        )


def _metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts
    return {
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(variant_sets.STRIP), 416)),
        "review": viewer_link(committed.ref.partition, "review"),
        "review_page": _page(committed),
        "variants": facts["variants"],
        **{state: count for state, count in facts["states"].items()},
        "not_judgeable": facts["not_judgeable"],
        "severities": dg.MetadataValue.json(facts["severities"]),
        "attempts": facts["attempts"],
        "styles": ", ".join(facts["styles"]),
        "cost_usd": float(facts["cost_usd"]),
        "identity": committed.ref.identity,
    }


def _page(committed: CommittedSet) -> dg.MetadataValue:
    """Where the review page is. No signed address: the event log would keep it, and `review show` fetches it."""
    return dg.MetadataValue.path(committed.address(variant_sets.PAGE))
