"""Options and parameter types of click that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.storage.atomic import named_path
from huetune.data_tools.storage.bucket_cache import local_path
from huetune.data_tools.storage.object_store import SCHEME

MAX_COUNT = 1_000_000
"""Upper bound for options that count; larger values are typos."""
MAX_SEED = 2**31 - 1


class _NonEmptyText(click.ParamType):
    """A text, or several with commas between. An empty one usually comes from an unset variable of a script."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not value.strip(" ,"):
            self.fail("must not be empty", param, ctx)
        return value


class _Folder(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return named_path(Path(os.fsdecode(super().convert(TEXT.convert(value, param, ctx), param, ctx))))


class _FolderOrBucket(click.ParamType):
    """A folder, or an s3:// URI, which is converted to the path of its local copy."""

    name = "folder or s3://..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, str) and value.startswith(SCHEME):
            return local_path(value)
        return FOLDER.convert(value, param, ctx)


TEXT = _NonEmptyText()
FOLDER = _Folder(path_type=Path)
FOLDER_OR_BUCKET = _FolderOrBucket()


def count_from(low: int) -> click.IntRange:
    """Return the type of an option that counts: an integer from `low` to `MAX_COUNT`."""
    return click.IntRange(low, MAX_COUNT)


def split_list(text: str | None) -> tuple[str, ...]:
    """Split the value of an option such as `roses,tulips` at its commas; None and empty parts give nothing."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def combine_options(*options: Callable) -> Callable:
    """Return one decorator that adds several options to a command, in this order."""

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


seed_option = click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True, help="Seed of all random choices."
)
