"""Types of command line options: durations, finalists and seeds, and values that `Search` validates."""

import re
from typing import Any

import click

from huetune.data_tools.cli.options import MAX_COUNT, MAX_SEED


class _Duration(click.ParamType):
    """A duration such as 90s, 30m or 1h30m; its value is a float in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        parts = re.fullmatch(r"(?:(\d{1,20})h)?(?:(\d{1,20})m)?(?:(\d{1,20})s)?", value)
        if not parts or not value:
            self.fail(f"{value!r} is not a duration such as 90s, 30m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        return float(hours * 3600 + minutes * 60 + seconds)


class _FinalistsAndSeeds(click.ParamType):
    """A number of finalists and of fresh seeds such as 3x5, which becomes a tuple; or `none`, which stays a string."""

    name = "TOPxSEEDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int] | str:
        if value == "none" or isinstance(value, tuple):
            return value
        if not (parts := re.fullmatch(r"(\d{1,9})x(\d{1,9})", value)):
            self.fail(f"{value!r} is neither none nor finalists x seeds such as 3x5", param, ctx)
        return int(parts[1]), int(parts[2])


class UncheckedChoice(click.Choice):
    """One of several names. The help lists them and a shell completes them; `Search` refuses others, as in Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as it is."""
        return value


class _UncheckedRange(click.IntRange):
    """A whole number. The help shows its range; `Search` refuses numbers outside of it, as in Python."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return click.INT.convert(value, param, ctx)


class ObjectiveOption(click.Option):
    """An option whose help lists the objectives; they are imported only when the help is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Fill the names of the objectives into the help text."""
        from huetune.model.metrics import METRICS

        self.help = (self.help or "").format(names=", ".join(METRICS.objectives))
        return super().get_help_record(ctx)


DURATION, FINALISTS_AND_SEEDS = _Duration(), _FinalistsAndSeeds()
COUNT, SEED = _UncheckedRange(1, MAX_COUNT), _UncheckedRange(0, MAX_SEED)
