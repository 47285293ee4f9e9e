"""A user's own Python on the scene of a look, within a time limit.

The script is the look's: it comes from the project's own folder, and its text is part of the job and of the render set's identity. It runs
where everything of a render runs, in a Blender process without secrets that may write into its own folder only.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping
from typing import Any

from blender_scripts.errors import InputError
from blender_scripts.stage import sets

#: The function that a script defines.
ENTRY = "build"
#: How long it may take where the look does not say, seconds.
DEFAULT_SECONDS = 20.0


class _TooLong(BaseException):
    """The time is over; no ``except Exception`` of a script catches it."""


def run(script: Mapping[str, Any], look: str, place: sets.Place) -> None:
    """Let a script add to a place: it is called with the place, whose ``chance`` is the look's random numbers, and with ``sets``.

    Args:
        script: ``name`` of the file, its ``text``, and ``seconds`` that it may take.

    Raises:
        InputError: it raises, does not end in time, or defines no ``build``.
    """
    name, seconds = str(script["name"]), float(script.get("seconds") or DEFAULT_SECONDS)

    def over(*_: object) -> None:
        raise _TooLong

    previous = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        space: dict[str, Any] = {"__name__": "look_script"}
        exec(compile(script["text"], name, "exec"), space)
        build = space.get(ENTRY)
        if not callable(build):
            raise InputError(f"look {look}: {name} defines no function {ENTRY}(place, sets)")
        build(place, sets)
    except InputError:
        raise
    except _TooLong:
        raise InputError(f"look {look}: {name} did not end within {seconds:g} s; make it shorter, or give it more script_seconds") from None  # fmt: skip
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise InputError(f"look {look}: {name}{where}: {type(error).__name__}: {error}; mend the script") from error  # fmt: skip
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
