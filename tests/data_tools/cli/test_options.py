"""Options that commands share convert and refuse values in the same way everywhere."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from huetune.data_tools.cli.options import FOLDER, FOLDER_OR_BUCKET, TEXT, combine_options, count_from, split_list
from huetune.data_tools.storage.bucket_cache import location_of


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_text_that_is_empty_is_refused(value):
    for kind in (TEXT, FOLDER, FOLDER_OR_BUCKET):
        with pytest.raises(click.BadParameter, match="must not be empty"):
            kind.convert(value, None, None)


def test_folder_or_bucket_of_uri_is_the_path_of_its_local_copy(state_folder):
    path = FOLDER_OR_BUCKET.convert("s3://hue/runs", None, None)
    assert path.is_relative_to(state_folder) and location_of(path) == "s3://hue/runs"


def test_folder_that_is_a_dot_gets_a_name():
    """Names of drafts and locks are made from the folder's name."""
    assert FOLDER.convert(".", None, None) == Path.cwd()


@pytest.mark.parametrize(
    ("text", "parts"), [(None, ()), ("roses", ("roses",)), (" roses, tulips ,,", ("roses", "tulips"))]
)
def test_split_list_strips_parts_and_ignores_empty_ones(text, parts):
    assert split_list(text) == parts


@pytest.mark.parametrize(("value", "code"), [("0", 2), ("1", 0), ("1000000", 0), ("1000001", 2)])
def test_combine_options_adds_options_in_order(value, code):
    @click.command()
    @combine_options(click.option("--trials", type=count_from(1)), click.option("--name", type=TEXT))
    def command(trials, name):
        click.echo(trials)

    assert [parameter.name for parameter in command.params] == ["trials", "name"]
    assert CliRunner().invoke(command, ["--trials", value]).exit_code == code
