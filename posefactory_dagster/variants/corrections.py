"""What is tried next when an image lost its pose: derived from why, and never the pose or the camera."""

from __future__ import annotations

from typing import NamedTuple

from posefactory_dagster.quality.gate import Verdict
from posefactory_dagster.variants.documents import Parameters


class Step(NamedTuple):
    """How far a fault moves the parameters: strength, control, and words for the prompts."""

    strength: float
    control: float
    prompt: str
    negative: str


#: By the gate's codes. Less freedom and more control for a lost pose; words where words can help.
STEPS = {
    "oks": Step(-0.15, 0.15, "exactly the same pose", ""),
    "oks_lost": Step(-0.10, 0.10, "exactly the same pose", ""),
    "agreement": Step(-0.15, 0.15, "exactly the same pose", ""),
    "joint_moved": Step(-0.10, 0.15, "exactly the same pose", "moved arms, moved legs"),
    "swapped": Step(-0.10, 0.10, "seen from {view}", "turned around"),
    "silhouette": Step(-0.15, 0.10, "tight clothes", "loose clothes, cape, props"),
    "silhouette_lost": Step(-0.10, 0.05, "tight clothes", "loose clothes, cape, props"),
}
#: Enough freedom to change anything at all is left.
LEAST_STRENGTH = 0.1


def correct(parameters: Parameters, verdict: Verdict, view: str) -> tuple[Parameters, str]:
    """The parameters of the next attempt, and why in words; another seed in any case."""
    codes = [r.code for r in verdict.reasons if r.severity == "major"]
    strength, control = parameters.strength, parameters.control
    prompts, negatives = [parameters.prompt], [parameters.negative_prompt]
    # The largest step, not their sum: several codes often tell of one fault, and attempts are few.
    strength += min(STEPS[code].strength for code in codes)
    control += max(STEPS[code].control for code in codes)
    for step in (STEPS[code] for code in codes):
        prompts.append(step.prompt.format(view=view.replace("_", " ")))
        negatives.append(step.negative)
    corrected = Parameters(
        prompt=_joined(prompts) if parameters.prompt else "",
        negative_prompt=_joined(negatives) if parameters.prompt else "",
        strength=round(max(strength, min(LEAST_STRENGTH, parameters.strength)), 3),
        control=round(min(control, 1.0), 3),
        seed=parameters.seed + 1,
    )
    changed = ", ".join(
        f"{name} {getattr(parameters, name)} to {getattr(corrected, name)}"
        for name in ("strength", "control", "seed")
        if getattr(parameters, name) != getattr(corrected, name)
    )
    return corrected, f"{' and '.join(codes)}: {changed}"


def _joined(parts: list[str]) -> str:
    """Phrases with commas, each once."""
    phrases = [p.strip() for part in parts for p in part.split(",")]
    return ", ".join(dict.fromkeys(p for p in phrases if p))
