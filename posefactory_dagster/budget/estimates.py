"""What a render job will cost on a rented machine, and whether it may."""

from __future__ import annotations

from dataclasses import dataclass

from posefactory_dagster.settings import PodSettings


class OverBudget(RuntimeError):
    """A job would exceed a cost or time limit; the text gives the figures."""


@dataclass(frozen=True)
class RenderEstimate:
    """Seconds and US dollars of a job; ``price`` in dollars an hour."""

    images: int
    seconds: float
    price: float

    @property
    def cost(self) -> float:
        """Cost in US dollars."""
        return cost_of(self.seconds, self.price)


def cost_of(seconds: float, price: float) -> float:
    """US dollars for ``seconds`` at ``price`` dollars an hour."""
    return seconds / 3600 * price


def estimate_render(
    images: int, price: float, settings: PodSettings, machines: int = 1
) -> RenderEstimate:
    """The estimate of a render job: rendering time plus one start-up for each machine."""
    seconds = machines * settings.startup_s + images * settings.seconds_per_image
    return RenderEstimate(images, seconds, price)


def check_budget(estimate: RenderEstimate, settings: PodSettings, spent: float = 0.0) -> None:
    """Refuse a job whose estimate plus ``spent`` (US dollars) exceeds ``max_cost_per_job``.

    Raises:
        OverBudget: with the figures.
    """
    if spent + estimate.cost > settings.max_cost_per_job:
        before = f" after ${spent:.2f} that are spent" if spent else ""
        raise OverBudget(
            f"{estimate.images} images are estimated at {estimate.seconds:.0f} s and ${estimate.cost:.2f} "
            f"(${estimate.price:.2f} an hour){before}, over max_cost_per_job = ${settings.max_cost_per_job:.2f}; "
            f"nothing {'more ' if spent else ''}was started. Run fewer characters at a time, or raise it in "
            "posefactory.toml, [pods]"
        )


def check_time(estimate: RenderEstimate, settings: PodSettings) -> None:
    """Refuse a job whose estimated time exceeds ``job_timeout_s``.

    Raises:
        OverBudget: with the figures.
    """
    if estimate.seconds > settings.job_timeout_s:
        raise OverBudget(
            f"{estimate.images} images are estimated at {estimate.seconds:.0f} s, over job_timeout_s = "
            f"{settings.job_timeout_s:.0f}; nothing was started. Run fewer characters at a time, or raise it"
        )
