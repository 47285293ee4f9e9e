"""What a render job will cost on a rented machine, and whether it may."""

from __future__ import annotations

from dataclasses import dataclass

from posefactory_dagster.settings import PodSettings


class OverBudget(RuntimeError):
    """A job would cost more than it may; the text says the figures."""


@dataclass(frozen=True)
class RenderEstimate:
    """Seconds and US dollars of a job; ``price`` in dollars an hour."""

    images: int
    seconds: float
    price: float

    @property
    def cost(self) -> float:
        """US dollars."""
        return cost_of(self.seconds, self.price)


def cost_of(seconds: float, price: float) -> float:
    """US dollars for ``seconds`` at ``price`` dollars an hour."""
    return seconds / 3600 * price


def estimate_render(
    images: int, price: float, settings: PodSettings, machines: int = 1
) -> RenderEstimate:
    """Rendering, and one start-up for each of so many machines."""
    seconds = machines * settings.startup_s + images * settings.seconds_per_image
    return RenderEstimate(images, seconds, price)


def check_budget(estimate: RenderEstimate, settings: PodSettings, spent: float = 0.0) -> None:
    """Refuse what is estimated to cost too much, with what was ``spent`` on the job already.

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
    """Refuse a job that could not end in time on one pod.

    Raises:
        OverBudget: with the figures.
    """
    if estimate.seconds > settings.job_timeout_s:
        raise OverBudget(
            f"{estimate.images} images are estimated at {estimate.seconds:.0f} s, over job_timeout_s = "
            f"{settings.job_timeout_s:.0f}; nothing was started. Run fewer characters at a time, or raise it"
        )
