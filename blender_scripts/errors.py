"""The one error of the stage."""


class InputError(ValueError):
    """The user's file is at fault; the text names the fault and the next step."""
