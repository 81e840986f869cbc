"""The commands `huetune evaluate` and `huetune colorize`, which apply the model of a run or an export to photos."""

import os
from pathlib import Path

import click

from huetune.data_tools.cli.data_commands import every_photo, read_photos
from huetune.data_tools.cli.options import FOLDER, FOLDER_OR_BUCKET, TEXT, seed_option, split_list
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import progress_bar, say, stderr
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import require_writable
from huetune.results.cli.options import by_option, storage_option
from huetune.results.cli.seen_photos import check_local_photos, find_seen_photos
from huetune.results.records.run_names import complete_run_name


@click.command()
@click.argument("run_or_export", type=TEXT, shell_complete=complete_run_name)
@storage_option
@click.option("--photos", type=FOLDER_OR_BUCKET, required=True, help="Folder of test photos, or s3://...")
@click.option("--classes", type=TEXT, help="Use only these subfolders, as in roses,tulips.")
@click.option("--strict", is_flag=True, help="Stop at the first photo that cannot be used.")
@click.option("--samples", type=click.IntRange(1, 100), default=5, show_default=True, help="Colorizations per photo.")
@click.option("--allow-leakage", is_flag=True, help="Include photos that the model was trained or ranked with.")
@seed_option
@by_option
@click.option(
    "--out",
    type=FOLDER_OR_BUCKET,
    help="Folder for metrics and pictures.  [default: evaluations/NAME in the run, NAME as in --photos]",
)
def evaluate(
    run_or_export: str,
    storage: Path,
    photos: Path,
    classes: str | None,
    strict: bool,
    samples: int,
    allow_leakage: bool,
    seed: int,
    by: str | None,
    out: Path | None,
) -> None:
    """Colorize test photos and measure the error against their true colors.

    Photos that the model was trained or ranked with, and near-duplicates of them, are skipped.

    Example: huetune evaluate roses --photos test-photos
    """
    from huetune.results.records.run import find_source

    model = find_source(run_or_export, storage)
    source = Source(photos, None, split_list(classes))
    check_local_photos(source)

    import numpy as np

    from huetune.data_tools.storage.output_files import require_outside_photos
    from huetune.model.checkpoint import read_checkpoint
    from huetune.results.evaluation import evaluate as evaluation
    from huetune.results.evaluation.leakage import leaked_names
    from huetune.results.export.best_model import model_from_source
    from huetune.results.records.value_text import format_value

    path, evaluations = model_from_source(model, by)
    out = out or evaluation.evaluation_folder(evaluations, source)
    require_outside_photos(photos, out, evaluation.COLORIZED)
    require_writable(out)
    settings = read_checkpoint(path)
    read = read_photos(source, strict, keep_rgb=every_photo)
    remedy = "; or pass --allow-leakage"
    seen = np.zeros(len(read), bool) if allow_leakage else find_seen_photos([settings], read, remedy)
    skipped = read.take(np.flatnonzero(seen)).names
    read = read.take(np.flatnonzero(~seen))
    if leaked := leaked_names(settings, read):
        found = f"the model was trained or ranked with {len(leaked)} of {counted(len(read), 'photo')}"
        text = (
            f"{found} or with near-duplicates of them, the first is {leaked[0]!r}: the metrics below are too optimistic"
        )
        say(text, "yellow", stderr)
    truth = source.read_rgb(read, progress_bar)
    import_tensorflow()
    report = evaluation.evaluate(
        path,
        read,
        truth,
        out,
        samples=samples,
        seed=seed,
        source=source.record,
        skipped=skipped,
        progress=progress_bar("colorizing", len(read)),
    )
    if leaked_names(settings, read) is None:
        say("the model does not record its photos, so it may have been trained with some of these", "yellow", stderr)
    for name, value in report["all"].items():
        say(f"{name:14} {format_value(value)}")
    sheet, _, metrics = (os.path.relpath(out / file) for file in report["files"].values())
    some = f" ({report['shown']} of the {len(read)} photos, spread evenly)" if report["shown"] < len(read) else ""
    say(f"{counted(len(read), 'photo')}, {counted(samples, 'sample')} each: {sheet}{some}, {metrics}")


@click.command()
@click.argument("run_or_export", type=TEXT, shell_complete=complete_run_name)
@click.argument("photos", nargs=-1, required=True, type=FOLDER)
@storage_option
@click.option("--out", type=FOLDER, required=True, help="Folder for the colorized photos.")
@click.option("--samples", type=click.IntRange(1, 100), default=1, show_default=True, help="Colorizations per photo.")
@seed_option
@by_option
def colorize(
    run_or_export: str, photos: tuple[Path, ...], storage: Path, out: Path, samples: int, seed: int, by: str | None
) -> None:
    """Colorize grayscale photos at their original size.

    Existing files in --out are not replaced: if a name is taken, the new file gets a number.

    Example: huetune colorize best-model old-1.jpg old-2.jpg --out colored
    """
    from huetune.results.records.run import find_source

    model = find_source(run_or_export, storage)

    from huetune.data_tools.photos.dataset import check_readable
    from huetune.results.export.best_model import model_from_source

    path, _ = model_from_source(model, by)
    for note in check_readable(photos):
        say(f"note: {note}", "yellow", stderr)
    require_writable(out)
    import_tensorflow()
    from huetune.results.evaluation.colorization import colorize_files

    written = colorize_files(
        path, photos, out, samples=samples, seed=seed, progress=progress_bar("colorizing", len(photos))
    )
    for file in written:
        say(str(file))
