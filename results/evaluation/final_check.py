"""The final check: a search's winner on the photos that neither trained nor ranked a trial, kept with the run."""

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

FILE = "final-check.json"
"""In a run. Only a final check writes it."""
SAMPLES, SEED = 5, 0
REFERENCES = ("baseline", "gray")
"""What every metric is compared with: one color for everything, the mean of the training photos; and no color."""


@dataclass(frozen=True)
class FinalCheck:
    """What a final check measured.

    Attributes:
        trial: number of the winner.
        objective: by which it won, a key of `model.metrics.METRICS`.
        checkpoints: of all trainings of the winner's configuration, the best one first, as folders in the run.
        count: of the test photos.
        fingerprint: of the test photos, a sha256.
        metrics: by name the mean over the trainings with its 95 % interval.
        references: of each of REFERENCES the metrics by name.
        measured: when, ISO 8601 in UTC.
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
        """Yield the check in words: what was measured on what, then a line for each metric."""
        many = len(self.checkpoints)
        how = f"the mean of all {many} trainings of its configuration" if many > 1 else "trained once"
        photos = f"{self.count} photos that no trial has seen, fingerprint {self.fingerprint[:16]}"
        yield f"final check of trial {self.trial}, {how}: {photos}"
        for name, estimate in self.metrics.items():
            others = ", ".join(
                f"{reference} {format_value(self.references[reference][name])}" for reference in REFERENCES
            )
            yield f"  {name:18} {format_estimate(estimate)}; {others}"


def measure(run: Run, photos: PhotoSet, truth: NDArray[uint8], quiet: bool = False) -> FinalCheck:
    """Measure the winner of a run on its test photos, with all of its trainings, and record that in the run.

    The best of the trainings colorizes the photos, in the run's folder `evaluation`.

    Args:
        run: of a search, held.
        photos: its n test photos, 1 or more.
        truth: uint8 [n, 112, 112, 3], the same photos.
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
    atomic_write(run.folder / FILE, (json.dumps(content, indent=2) + "\n").encode())
    push(run.folder / FILE)
    for line in found.lines() if not quiet else ():
        say(line)
    return found


def read(run: Run) -> FinalCheck | None:
    """Return the final check of a run; None without one: it has not ended, or an older huetune ended it.

    Raises:
        StorageError: it is damaged.
    """
    path = run.path(FILE)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["metrics"] = {name: Estimate(**estimate) for name, estimate in content["metrics"].items()}
        content["checkpoints"] = tuple(content["checkpoints"])
        found = FinalCheck(**{name: content[name] for name in FinalCheck.__dataclass_fields__})
        _require_sense(found)
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        again = run.command("resume")
        raise StorageError(f"{str(path)!r}: is damaged ({first_line(error)}); measure again with: {again}") from None


def read_or_none(run: Run) -> FinalCheck | None:
    """Return the final check of a run; None where there is none, or where it is damaged, which `verify` says."""
    try:
        return read(run)
    except StorageError:
        return None


def _require_sense(found: FinalCheck) -> None:
    words = [found.fingerprint, found.measured, *found.checkpoints]
    if {*map(type, words)} != {str} or {type(found.trial), type(found.count)} != {int}:
        raise ValueError("a text or a count has the wrong type")
    if found.objective not in METRICS.objectives or found.objective not in found.metrics:
        raise ValueError(f"unknown objective {found.objective!r}")
    numbers = [end for estimate in found.metrics.values() for end in (estimate.low, estimate.high) if end is not None]
    numbers += [estimate.value for estimate in found.metrics.values()]
    numbers += [found.references[reference][name] for reference in REFERENCES for name in found.metrics]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("a metric is not a finite number")


def is_current(run: Run, studies: Studies | None = None) -> bool:
    """Whether the final check of a run is of its winner as it is now, with all trainings of that.

    Args:
        run: of a search.
        studies: the run's, where they have been read; None to read them.
    """
    found = read_or_none(run)
    if found is None:
        return False
    _, paths = best_model.best_checkpoints(run, studies or run.snapshot(), found.objective)
    return _names(run, paths) == found.checkpoints


def renew(run: Run, photos: PhotoSet, quiet: bool = False) -> None:
    """Measure the winner of a run on its test photos, unless that was done; see `measure`."""
    if len(photos) and not is_current(run):
        truth = source_of(run).read_rgb(photos, partial(progress_bar, quiet=quiet))
        measure(run, photos, truth, quiet)


def _names(run: Run, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(run.folder).as_posix() for path in paths)


def described(run: Run, studies: Studies) -> Iterator[str]:
    """Yield the final check of a run in words, and what is wrong with it; nothing where there is none.

    Args:
        run: of a search.
        studies: the run's.
    """
    try:
        found = read(run)
    except StorageError as error:
        yield f"final check: {error}"
        return
    if found:
        yield from found.lines()
        if not is_current(run, studies):
            again = run.command("resume")
            yield f"  the winner was trained again or is another one since; measure again with: {again}"


def _keep_earlier(run: Run) -> None:
    """Move what an older huetune left in `evaluation`, which may be of other photos, to a name of its own."""
    folder = run.folder / EVALUATION
    if not list_paths(folder, "metrics.json") or list_paths(folder, RECORD_FILE):
        return
    pull(folder)
    places = (run.folder / EVALUATIONS / name for name in numbered_names("earlier"))
    place = next(place for place in places if not list_paths(place, "*"))
    shutil.copytree(folder, place)
    push(place)
    remove(folder)
    say(f"the earlier evaluation is now in {EVALUATIONS}/{place.name}")
