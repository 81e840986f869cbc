"""The command `huetune best`: shows the winner of a run and exports its model."""

import os
from pathlib import Path

import click

from huetune.data_tools.cli.options import FOLDER_OR_BUCKET
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.atomic import require_new
from huetune.data_tools.storage.bucket_cache import location_of
from huetune.results.cli.options import by_option, storage_option
from huetune.results.records.run_names import run_argument


@click.command()
@run_argument
@storage_option
@click.option("--export", "folder", type=FOLDER_OR_BUCKET, help="Export the model to this new folder.")
@by_option
def best(run: str, storage: Path, folder: Path | None, by: str | None) -> None:
    """Show the winner of a run, and export its model.

    If finalists were trained again from fresh seeds, the one with the best mean score wins; otherwise the trial with
    the best score.

    Example: huetune best roses --export best-model
    """
    from huetune.results.records.run import find_run

    found = find_run(run, storage)
    if folder:
        require_new(folder)

    from huetune.model.checkpoint import read_checkpoint
    from huetune.results.analysis.winner import headline, winner_of
    from huetune.results.evaluation import final_check
    from huetune.results.export import best_model
    from huetune.results.records.study_record import StudyRecord
    from huetune.results.records.value_text import format_value

    study, replicates = studies = found.snapshot()
    row, paths = best_model.best_checkpoints(found, studies, by)
    path = paths[0]
    checkpoint = read_checkpoint(path)
    won = winner_of(study, replicates, by)
    assert won
    for name in (
        "trial",
        "continues",
        "rank",
        "front",
        "preset",
        *StudyRecord.of(study).parameters,
        "epochs",
        "seconds",
        "host",
    ):
        if row.get(name) is not None:
            _show(name, format_value(row[name]))
    for name, text in won.lines():
        _show(name, text)
    _show(
        "photos", f"{checkpoint.photos['training']} for training, fingerprint {checkpoint.photos['fingerprint'][:16]}"
    )
    _show("versions", ", ".join(f"{part} {version}" for part, version in checkpoint.versions.items()))
    _show("folder", os.path.relpath(path))
    say(headline(study, replicates) or f"trial {won.number} is the best by {won.objective}; {won.comparison}")
    for line in final_check.report_lines(found, studies):
        say(line)
    if folder:
        import_tensorflow()
        best_model.export(path, folder, best_model.metric_record(won))
        _show("exported to", location_of(folder))


def _show(name: str, text: str) -> None:
    say(f"{name:14} {text}")
