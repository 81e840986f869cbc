"""The final check: measures the winner of a search on the test split, which no trial has seen, and records it."""

import datetime
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy import uint8
from numpy.typing import NDArray

from huetune.data_tools.common.errors import StorageError, first_line
from huetune.data_tools.common.plural import counted
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import progress_bar, say
from huetune.data_tools.photos.dataset import PhotoSet
from huetune.data_tools.storage.atomic import atomic_write
from huetune.data_tools.storage.bucket_cache import list_paths, pull, push, remove
from huetune.data_tools.storage.output_files import RECORD_FILE, numbered_names
from huetune.model.metrics import METRICS
from huetune.results.analysis.intervals import Estimate, format_estimate, mean
from huetune.results.export import best_model
from huetune.results.records.run import EVALUATION, EVALUATIONS, Run
from huetune.results.records.run_photos import source_of
from huetune.results.records.study_file import Studies
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.value_text import format_value

FILE_NAME = "final-check.json"
"""Name of the record in the run's folder."""
SAMPLES, SEED = 5, 0
REFERENCES = ("baseline", "gray")
"""What each metric is compared with: the mean-color baseline, and the grayscale photos."""


@dataclass(frozen=True)
class FinalCheck:
    """Result of a final check.

    Attributes:
        trial: number of the winner.
        objective: name of the metric by which it won, a key of `model.metrics.METRICS`.
        checkpoints: checkpoint folders of all trainings of the winner's configuration, relative to the run, the best
            one first.
        count: number of test photos.
        fingerprint: sha256 of the test photos.
        metrics: mean of each metric over the trainings, with its 95% interval.
        references: metrics of each of REFERENCES by name.
        measured: time of the check, ISO 8601 in UTC.
    """

    trial: int
    objective: str
    checkpoints: tuple[str, ...]
    count: int
    fingerprint: str
    metrics: Mapping[str, Estimate]
    references: Mapping[str, Mapping[str, float]]
    measured: str

    def lines(self) -> Iterator[str]:
        """Yield a line about what was measured, then a line for each metric."""
        trainings = len(self.checkpoints)
        how = f"mean of {trainings} trainings of its configuration" if trainings > 1 else "trained once"
        photos = f"{counted(self.count, 'photo')} that no trial has seen"
        yield f"final check of trial {self.trial} on {photos} (fingerprint {self.fingerprint[:16]}): {how}"
        for name, estimate in self.metrics.items():
            others = ", ".join(
                f"{reference} {format_value(self.references[reference][name])}" for reference in REFERENCES
            )
            yield f"  {name:18} {format_estimate(estimate)}; {others}"


def measure(run: Run, photos: PhotoSet, truth: NDArray[uint8], quiet: bool = False) -> FinalCheck:
    """Measure all trainings of the winner on the run's test photos, and record the result in the run.

    The checkpoint with the best score colorizes the photos; the pictures are in the run's folder `evaluation`.

    Args:
        run: run of a search, locked by this process.
        photos: the n test photos of the run, 1 or more.
        truth: uint8 [n, 112, 112, 3], the same photos in color.
        quiet: show nothing.

    Raises:
        NoTrialError: no trial is complete.
        CheckpointError: a model cannot be loaded.
    """
    import_tensorflow()
    from huetune.results.evaluation import evaluate

    studies = run.snapshot()
    objective = StudyRecord.of(studies[0]).objective
    row, paths = best_model.best_checkpoints(run, studies, objective)
    _keep_earlier(run)
    folder = run.folder / EVALUATION
    options: dict[str, Any] = {"samples": SAMPLES, "seed": SEED}
    report = evaluate.evaluate(
        paths[0], photos, truth, folder, **options, progress=progress_bar("colorizing", len(photos), quiet)
    )
    progress = progress_bar("measuring", len(paths) - 1, quiet)
    each = [report["all"], *evaluate.measure_checkpoints(paths[1:], photos, truth, **options, progress=progress)]
    found = FinalCheck(
        trial=row["trial"],
        objective=objective,
        checkpoints=_names(run, paths),
        count=len(photos),
        fingerprint=photos.fingerprint,
        metrics={name: mean([one[name] for one in each], evaluate.metrics()[name].limits) for name in report["all"]},
        references=report["references"],
        measured=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    content = {
        **vars(found),
        "metrics": {name: vars(estimate) for name, estimate in found.metrics.items()},
        "trainings": [dict(metrics) for metrics in each],
        **options,
    }
    atomic_write(run.folder / FILE_NAME, (json.dumps(content, indent=2) + "\n").encode())
    push(run.folder / FILE_NAME)
    for line in found.lines() if not quiet else ():
        say(line)
    return found


def read(run: Run) -> FinalCheck | None:
    """Return the final check of a run; None if the run has not ended, or an older version of huetune ended it.

    Raises:
        StorageError: its record is damaged.
    """
    path = run.path(FILE_NAME)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"] = {name: Estimate(**estimate) for name, estimate in content["metrics"].items()}
        content["checkpoints"] = tuple(content["checkpoints"])
        found = FinalCheck(**{name: content[name] for name in FinalCheck.__dataclass_fields__})
        _validate(found)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        command = run.command("resume")
        raise StorageError(f"{str(path)!r}: is damaged ({first_line(error)}); measure again with: {command}") from None


def read_or_none(run: Run) -> FinalCheck | None:
    """Return the final check of a run; None if there is none or its record is damaged, which `verify` reports."""
    try:
        return read(run)
    except StorageError:
        return None


def _validate(found: FinalCheck) -> None:
    texts = [found.fingerprint, found.measured, *found.checkpoints]
    if {*map(type, texts)} != {str} or {type(found.trial), type(found.count)} != {int}:
        raise ValueError("a text or a count has the wrong type")
    if found.objective not in METRICS.objectives or found.objective not in found.metrics:
        raise ValueError(f"unknown objective {found.objective!r}")
    numbers = [end for estimate in found.metrics.values() for end in (estimate.low, estimate.high) if end is not None]
    numbers += [estimate.value for estimate in found.metrics.values()]
    numbers += [found.references[reference][name] for reference in REFERENCES for name in found.metrics]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a metric is not a finite number")


def is_current(run: Run, studies: Studies | None = None) -> bool:
    """Return whether the final check of a run covers the current winner with all of its trainings.

    Args:
        run: run of a search.
        studies: the studies of the run if they have been read already; None to read them.
    """
    found = read_or_none(run)
    if found is None:
        return False
    _, paths = best_model.best_checkpoints(run, studies or run.snapshot(), found.objective)
    return _names(run, paths) == found.checkpoints


def measure_if_outdated(run: Run, photos: PhotoSet, quiet: bool = False) -> None:
    """Measure the winner of a run on its test photos, see `measure`, unless the final check is current."""
    if len(photos) and not is_current(run):
        truth = source_of(run).read_rgb(photos, partial(progress_bar, quiet=quiet))
        measure(run, photos, truth, quiet)


def _names(run: Run, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(run.folder).as_posix() for path in paths)


def report_lines(run: Run, studies: Studies) -> Iterator[str]:
    """Yield the lines of a run's final check, and a line if it is damaged or outdated; nothing if there is none.

    Args:
        run: run of a search.
        studies: the studies of the run.
    """
    try:
        found = read(run)
    except StorageError as error:
        yield f"final check: {error}"
        return
    if found:
        yield from found.lines()
        if not is_current(run, studies):
            command = run.command("resume")
            yield f"  outdated: the winner has changed or was trained again since; measure again with: {command}"


def _keep_earlier(run: Run) -> None:
    """Move an evaluation by an older version, which may be of other photos, out of the folder `evaluation`."""
    folder = run.folder / EVALUATION
    if not list_paths(folder, "metrics.json") or list_paths(folder, RECORD_FILE):
        return
    pull(folder)
    targets = (run.folder / EVALUATIONS / name for name in numbered_names("earlier"))
    target = next(target for target in targets if not list_paths(target, "*"))
    shutil.copytree(folder, target)
    push(target)
    remove(folder)
    say(f"the earlier evaluation is now in {EVALUATIONS}/{target.name}")
