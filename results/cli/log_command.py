"""The command `huetune log`: writes an experiment log."""

import os
from pathlib import Path
from typing import Any

import click

from huetune.data_tools.cli.data_commands import every_photo, read_photos
from huetune.data_tools.cli.options import FOLDER_OR_BUCKET, TEXT, count_from, split_list
from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import progress_bar, say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import named_path, recover, require_writable
from huetune.results.cli.options import storage_option
from huetune.results.cli.seen_photos import check_local_photos, find_seen_photos
from huetune.results.records.run_names import run_names
from huetune.results.records.run_photos import photos_of, source_of


@click.command()
@click.argument("runs_or_models", nargs=-1, required=True, type=TEXT, shell_complete=run_names)
@storage_option
@click.option("--top", type=count_from(0), help="Best trials of a search, besides its presets.  [default: 3]")
@click.option("--trials", type=TEXT, help="These trials instead, as in 0,4.")
@click.option("--photos", type=FOLDER_OR_BUCKET, help="Folder of test photos.  [default: those that were held out]")
@click.option("--classes", type=TEXT, help="Only these subfolders of --photos, as in roses,tulips.")
@click.option("--lang", type=click.Choice(["en", "ko"]), default="en", show_default=True, help="English or Korean.")
@click.option("--out", type=FOLDER_OR_BUCKET, help="Folder for the log.  [default: log in the run, or MODEL-log]")
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
    """Write the log of a run, or of models that `train` made: Markdown, the newest first, with pictures.

    Example: huetune log roses
    """
    from huetune.results.records.run import TRIAL_NUMBER

    if out:
        require_writable(out)
    numbers = split_list(trials)
    if numbers and top is not None:
        raise UserError("--top and --trials: choose one of them")
    if wrong := [word for word in numbers if not TRIAL_NUMBER.fullmatch(word)]:
        raise UserError(f"--trials {trials!r}: {wrong[0]!r} is not the number of a trial")
    chosen = Source(photos, None, split_list(classes))
    models = [_run_or_model(word, storage) for word in runs_or_models]
    check_local_photos(chosen)

    from huetune.data_tools.storage.output_files import PHOTOS_FOLDER, require_outside_photos
    from huetune.model.checkpoint import read
    from huetune.results.experiment_log.entry import told_apart

    found = [_entries(model, top, tuple(map(int, numbers))) for model in models]
    place = out or found[0][1]
    if photos:
        require_outside_photos(photos, place, PHOTOS_FOLDER, *{entry.key for entries, *_ in found for entry in entries})
    named = None
    if photos:
        wanted = read_photos(chosen, wanted=every_photo)
        known = find_seen_photos((read(entry.checkpoint) for entries, *_ in found for entry in entries), wanted)
        named = wanted.take((~known).nonzero()[0]), chosen
    tests = [test for entries, _, photos_then in found for test in [_tested(named, photos_then)] * len(entries)]
    entries = told_apart([entry for entries, _, _ in found for entry in entries])
    import_tensorflow()
    from huetune.model.diagram import missing_graphviz
    from huetune.results.experiment_log import document

    if line := missing_graphviz():
        say(line, "yellow", stderr)
    pairs = [(entry, test and document.Tested(*test)) for entry, test in zip(entries, tests, strict=True)]
    file = document.write(pairs, place, lang, progress_bar("writing the log", len(pairs)))
    say(f"{len(pairs)} models, the newest first: {os.path.relpath(file)}")


def _run_or_model(word: str, storage: Path) -> Any:
    """The folder of a model, or else the run, that a word means."""
    from huetune.model.checkpoint import SETTINGS
    from huetune.results.records.run import find_run

    folder = named_path(Path(word))
    recover(folder)
    return folder if (folder / SETTINGS).is_file() else find_run(word, storage)


def _entries(model: Any, top: int | None, numbers: tuple[int, ...]) -> tuple[Any, Path, Any]:
    """The entries for a run or a model, where their log belongs, and what reads the photos that test them."""
    from huetune.model.checkpoint import read
    from huetune.model.cli import parts_of
    from huetune.results.experiment_log.entry import TOP, of_checkpoint, of_run

    if isinstance(model, Path):
        folder = model

        def held_out() -> tuple[Any, Source]:
            parts, source = parts_of(read(folder))
            return parts.validation, source

        return [of_checkpoint(folder)], folder.with_name(f"{folder.resolve().name}-log"), held_out
    run = model

    def kept_back() -> tuple[Any, Source]:
        return photos_of(run, quiet=True).test, source_of(run)

    return of_run(run, TOP if top is None else top, numbers), run.folder / "log", kept_back


def _tested(named: Any, photos_then: Any) -> Any:
    """Test photos with their colors; None where they cannot be read any more, which is said."""
    try:
        photos, source = named or photos_then()
        return photos, source.read_rgb(photos, progress_bar)
    except UserError as error:
        if named:
            raise
        say(f"no test photos in the log: {error}; name some with --photos", "yellow", stderr)
        return None
