"""The command `huetune report`: writes a run as one HTML page."""

import os
from pathlib import Path

import click

from huetune.data_tools.cli.data_commands import every_photo, read_photos
from huetune.data_tools.cli.options import FOLDER_OR_BUCKET
from huetune.data_tools.common.errors import CheckpointError, PhotoError, StorageError
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import progress_bar, say
from huetune.data_tools.photos.source import Source
from huetune.data_tools.storage.atomic import require_writable
from huetune.results.cli.options import storage_option
from huetune.results.cli.seen_photos import check_local_photos, find_seen_photos
from huetune.results.records.run_names import run_argument
from huetune.results.records.run_photos import photos_of, source_of


@click.command()
@run_argument
@storage_option
@click.option("--out", type=FOLDER_OR_BUCKET, help="HTML file to write.  [default: report.html in the run]")
@click.option(
    "--photos", type=FOLDER_OR_BUCKET, help="Folder of test photos to show.  [default: the test split of the run]"
)
def report(run: str, storage: Path, out: Path | None, photos: Path | None) -> None:
    """Write a report of a run as one HTML page, also while the search is running.

    Example: huetune report roses --out roses.html
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    out = out or found.folder / "report.html"
    require_writable(out.parent)
    if photos:
        check_local_photos(Source(photos))

    from huetune.model.checkpoint import read_checkpoint
    from huetune.results.evaluation.gallery import select_evenly
    from huetune.results.report import page as pages
    from huetune.results.report.summary import Findings

    pages.check_out(out)
    findings = Findings.of(found)
    shown, why_not = None, None
    try:
        if photos:
            source = Source(photos)
            chosen = read_photos(source, keep_rgb=every_photo)
            seen = find_seen_photos(map(read_checkpoint, pages.shown_checkpoints(findings).values()), chosen)
            skipped, chosen = int(seen.sum()), chosen.take((~seen).nonzero()[0])
        else:
            chosen, skipped = photos_of(found, quiet=False).test, 0
            source = source_of(found)
        shown = pages.GalleryPhotos(chosen, source.read_rgb(select_evenly(chosen), progress_bar), str(source), skipped)
    except (PhotoError, StorageError) as error:
        if photos:
            raise
        why_not = str(error)
    except CheckpointError as error:
        why_not = str(error)
    import_tensorflow()
    pages.write_page(out, pages.render_page(findings, shown, why_not))
    say(f"{os.path.relpath(out)}: {out.stat().st_size / 1e6:.1f} MB, opens in any browser")
    if why_not:
        say(f"without pictures: {why_not}", "yellow")
