"""The command `huetune log`: writes an experiment log."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from huetune.data_tools.cli.data_commands import every_photo, read_photos
from huetune.data_tools.cli.options import FOLDER_OR_BUCKET, TEXT, count_from, split_list
from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import progress_bar, say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import named_path, recover, require_writable
from huetune.results.cli.options import storage_option
from huetune.results.cli.seen_photos import check_local_photos, find_seen_photos
from huetune.results.records.run_names import complete_run_name
from huetune.results.records.run_photos import photos_of, source_of

if TYPE_CHECKING:  # these import NumPy and Optuna, which a command's help does not need
    from huetune.data_tools.photos.dataset import PhotoSet
    from huetune.results.experiment_log.entry import Entry, PhotosToTest
    from huetune.results.records.run import Run


@click.command()
@click.argument("runs_or_models", nargs=-1, required=True, type=TEXT, shell_complete=complete_run_name)
@storage_option
@click.option("--top", type=count_from(0), help="Number of best trials to include, besides the presets.  [default: 3]")
@click.option("--trials", type=TEXT, help="Include these trials instead, as in 0,4.")
@click.option("--photos", type=FOLDER_OR_BUCKET, help="Folder of test photos, or s3://...  [default: held-out photos]")
@click.option("--classes", type=TEXT, help="Use only these subfolders of --photos, as in roses,tulips.")
@click.option("--lang", type=click.Choice(["en", "ko"]), default="en", show_default=True, help="English or Korean.")
@click.option(
    "--out", type=FOLDER_OR_BUCKET, help="Folder for the experiment log.  [default: log in the run, or MODEL-log]"
)
def log(
    runs_or_models: tuple[str, ...],
    storage: Path,
    top: int | None,
    trials: str | None,
    photos: Path | None,
    classes: str | None,
    lang: str,
    out: Path | None,
) -> None:
    """Write the experiment log of a run or of trained models.

    The log is a Markdown file with pictures. It has an entry for each model, the newest first: settings, what changed,
    training log, structure, test results and a verdict.

    Example: huetune log roses
    """
    from huetune.results.records.run import TRIAL_NUMBER

    if out:
        require_writable(out)
    numbers = split_list(trials)
    if numbers and top is not None:
        raise UserError("--top and --trials: choose one of them")
    if wrong := [word for word in numbers if not TRIAL_NUMBER.fullmatch(word)]:
        raise UserError(f"--trials {trials!r}: {wrong[0]!r} is not a trial number; pass numbers such as 0,4")
    source = Source(photos, None, split_list(classes))
    runs_and_folders = [_run_or_model_folder(word, storage) for word in runs_or_models]
    check_local_photos(source)

    from huetune.data_tools.storage.output_files import PHOTOS_FOLDER, require_outside_photos
    from huetune.model.checkpoint import read_checkpoint
    from huetune.results.experiment_log.entry import with_unique_names

    logged = [models_to_log(model, top, tuple(map(int, numbers))) for model in runs_and_folders]
    all_entries = [entry for models in logged for entry in models.entries]
    folder = out or logged[0].folder
    chosen = None
    if photos:
        require_outside_photos(photos, folder, PHOTOS_FOLDER, *{entry.key for entry in all_entries})
        read_now = read_photos(source, keep_rgb=every_photo)
        seen = find_seen_photos((read_checkpoint(entry.checkpoint) for entry in all_entries), read_now)
        chosen = _with_colors(read_now.take((~seen).nonzero()[0]), source)
    tests = [test for models in logged for test in [chosen or _held_out(models)] * len(models.entries)]
    import_tensorflow()
    from huetune.model.diagram import missing_graphviz
    from huetune.results.experiment_log import document

    if line := missing_graphviz():
        say(line, "yellow", stderr)
    pairs = list(zip(with_unique_names(all_entries), tests, strict=True))
    file = document.write(pairs, folder, lang, progress_bar("writing the experiment log", len(pairs)))
    say(f"{counted(len(pairs), 'model')}{', newest first' * (len(pairs) > 1)}: {os.path.relpath(file)}")


@dataclass(frozen=True)
class ModelsToLog:
    """The models of one argument of `huetune log`.

    Attributes:
        entries: one for each model.
        folder: where their log goes unless --out is given.
        read_held_out: reads the photos that the models are tested on unless --photos is given, and their source.
    """

    entries: "list[Entry]"
    folder: Path
    read_held_out: "Callable[[], tuple[PhotoSet, Source]]"


def models_to_log(model: "Path | Run", top: int | None, numbers: tuple[int, ...]) -> ModelsToLog:
    """Return the models of a run, or the model in a folder.

    Args:
        model: the folder of a model, or a run.
        top: number of best trials of a run; None for the default.
        numbers: numbers of the trials to include instead.
    """
    from huetune.model.checkpoint import read_checkpoint
    from huetune.model.training_plan import photos_of_checkpoint
    from huetune.results.experiment_log.entry import DEFAULT_TOP, entries_of_run, entry_of_checkpoint

    if isinstance(model, Path):
        folder = model

        def read_validation_photos() -> "tuple[PhotoSet, Source]":
            parts, source = photos_of_checkpoint(read_checkpoint(folder))
            return parts.validation, source

        log_folder = folder.with_name(f"{folder.resolve().name}-log")
        return ModelsToLog([entry_of_checkpoint(folder)], log_folder, read_validation_photos)
    run = model

    def read_test_photos() -> "tuple[PhotoSet, Source]":
        return photos_of(run, quiet=True).test, source_of(run)

    entries = entries_of_run(run, DEFAULT_TOP if top is None else top, numbers)
    return ModelsToLog(entries, run.folder / "log", read_test_photos)


def _run_or_model_folder(word: str, storage: Path) -> "Path | Run":
    """Return the folder of a model if an argument names one, otherwise the run of that name."""
    from huetune.model.checkpoint_format import SETTINGS_FILE
    from huetune.results.records.run import find_run

    folder = named_path(Path(word))
    recover(folder)
    return folder if (folder / SETTINGS_FILE).is_file() else find_run(word, storage)


def _held_out(models: ModelsToLog) -> "PhotosToTest | None":
    """Return the held-out photos of models; None, with a warning, if they can no longer be read."""
    try:
        return _with_colors(*models.read_held_out())
    except UserError as error:
        say(f"no test photos in the experiment log: {error}; choose some with --photos", "yellow", stderr)
        return None


def _with_colors(photos: "PhotoSet", source: Source) -> "PhotosToTest":
    from huetune.results.experiment_log.entry import PhotosToTest

    return PhotosToTest(photos, source.read_rgb(photos, progress_bar))
