"""Exports a run to TensorBoard's event files: curves for SCALARS, settings and scores for HPARAMS.

The files are made from the study and not by the search, so the search is not slowed down, and old runs, running
searches and runs in a bucket are exported alike. A trial always gives the same bytes, and a longer trial appends to
them: existing files are continued, and a TensorBoard that has a file open reads the new epochs.

tensorboardX (2.6.5) has a SummaryWriter that starts each file with the time of writing, never appends, and logs
every session as successful, without its times and domains. It also starts a thread and a queue between processes for
each file (47 times as slow for 100 files of 30 epochs), and waits forever on a full disk.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState
from tensorboardX.proto.api_pb2 import (
    DATA_TYPE_BOOL,
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    DATA_TYPE_UNSET,
    DATASET_TRAINING,
    DATASET_VALIDATION,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    STATUS_UNKNOWN,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.record_writer import RecordWriter

from huetune.data_tools.common.errors import StorageError
from huetune.data_tools.storage.output_files import record_files, recorded_files
from huetune.model.presets import PRESETS
from huetune.results.records.epoch_metrics import displayed_metrics
from huetune.results.records.study_record import StudyRecord
from huetune.results.records.trial_record import TrialRecord

FOLDER = "tensorboard"
"""Default folder of the event files in a run."""
FILE = "events.out.tfevents.0.huetune"
"""The name must contain "tfevents"; TensorBoard reads the files of a folder in the order of their names."""
SCORE_TAG = "score"
"""Tag of the best value of the objective so far; its last value is the score in the trial table."""
STATUSES = {TrialState.COMPLETE: STATUS_SUCCESS, TrialState.FAIL: STATUS_FAILURE, TrialState.PRUNED: STATUS_UNKNOWN}
"""TensorBoard has no status for pruned sessions; as unknown ones they can be filtered out."""
PRESET_NAME = "preset"


def write(study: optuna.Study, folder: Path, progress: Callable[[Iterable], Iterable] = iter) -> int:
    """Write the event files of all trials.

    Args:
        study: study of a search.
        folder: folder of the event files, which is created; files of the same study are continued.
        progress: wraps the trials to show progress.

    Returns:
        The number of trials.

    Raises:
        OSError: the files cannot be written.
        StorageError: an existing event file is of another run, or was changed.
    """
    trials = study.get_trials(deepcopy=False)
    command = f"tensorboard {study.study_name}"
    known = recorded_files(folder, command)
    files = {FILE: _extend(folder / FILE, _experiment(study, trials), known.get(FILE))}
    objective = StudyRecord.of(study).objective
    for trial in progress(trials):
        name = f"{trial.number:04}/{FILE}"
        files[name] = _extend(folder / name, _events(trial, objective), known.get(name))
    if files != known:
        record_files(folder, command, files)
    return len(trials)


def _extend(path: Path, events: Iterator[Event], known: str | None) -> str:
    """Append to an event file those events that it does not have yet, and return its SHA-256.

    Args:
        path: path of the file.
        events: all events of the file.
        known: SHA-256 of the file after the last export; None if there was none.
    """
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".draft-", dir=folder) as draft:
        writer = RecordWriter(draft.name)
        for event in events:
            writer.write(_bytes(event))
        writer.close()
        content = Path(draft.name).read_bytes()
    there = path.read_bytes() if path.is_file() else b""
    if not content.startswith(there):
        if hashlib.sha256(there).hexdigest() != known:
            raise StorageError(
                f"{str(path)!r}: has events of another run, or was changed; remove it, or choose another --out"
            )
        path.unlink()
        there = b""
    with path.open("ab") as file:
        file.write(content[len(there) :])
    return hashlib.sha256(content).hexdigest()


def _events(trial: FrozenTrial, objective: str) -> Iterator[Event]:
    record = TrialRecord.of(trial)
    start = record.start
    now = start.timestamp() if start else 0.0
    yield Event(wall_time=now, file_version="brain.Event:2")
    begun = SessionStartInfo(start_time_secs=now, group_name=f"trial {trial.number}")
    for name, value in {**trial.params, PRESET_NAME: record.preset}.items():
        if value is not None:
            setattr(begun.hparams[name], _value_type(value)[0], value)
    yield _plugin(now, "session_start_info", HParamsPluginData(session_start_info=begun))
    scores = record.best_so_far(objective)
    for epoch in record.epochs:
        # The study records the duration of each epoch but not its time.
        now += epoch.seconds
        tags = {SCORE_TAG: scores[epoch.epoch], **epoch}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in tags.items()]
        yield Event(wall_time=now, step=epoch.epoch, summary=Summary(value=values))
    if trial.state in STATUSES:
        end = record.end
        now = end.timestamp() if end else now
        ended = SessionEndInfo(status=STATUSES[trial.state], end_time_secs=now)
        yield _plugin(now, "session_end_info", HParamsPluginData(session_end_info=ended))


def _experiment(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Iterator[Event]:
    searched = StudyRecord.of(study)
    begun = min((start.timestamp() for trial in trials if (start := TrialRecord.of(trial).start)), default=0.0)
    yield Event(wall_time=begun, file_version="brain.Event:2")
    domains: dict[str, Any] = {name: domain for trial in trials for name, domain in trial.distributions.items()}
    settings = []
    for name in (name for name in searched.parameters if name in domains):
        domain = domains[name]
        if isinstance(domain, CategoricalDistribution):
            kinds = {_value_type(choice)[1] for choice in domain.choices}
            setting = HParamInfo(name=name, type=kinds.pop() if len(kinds) == 1 else DATA_TYPE_UNSET)
            for choice in domain.choices:
                setattr(setting.domain_discrete.values.add(), *(_value_type(choice)[0], choice))
        else:
            setting = HParamInfo(name=name, type=DATA_TYPE_FLOAT64)
            setting.domain_interval.min_value, setting.domain_interval.max_value = domain.low, domain.high
        settings.append(setting)
    preset = HParamInfo(name=PRESET_NAME, type=DATA_TYPE_STRING)
    for name in PRESETS:
        preset.domain_discrete.values.add().string_value = name
    settings.append(preset)
    objective = searched.objective
    measured = [
        MetricInfo(
            name=MetricName(tag=tag),
            display_name=f"{SCORE_TAG} ({objective}, best so far)" if tag == SCORE_TAG else tag,
            dataset_type=DATASET_TRAINING if tag.startswith("train_") else DATASET_VALIDATION,
        )
        for tag in (SCORE_TAG, *displayed_metrics())
    ]
    about = Experiment(name=study.study_name, time_created_secs=begun, hparam_infos=settings, metric_infos=measured)
    yield _plugin(begun, "experiment", HParamsPluginData(experiment=about))


def _plugin(time: float, tag: str, content: HParamsPluginData) -> Event:
    data = SummaryMetadata.PluginData(plugin_name="hparams", content=_bytes(content))
    value = Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=data))
    return Event(wall_time=time, summary=Summary(value=[value]))


def _bytes(message: Any) -> bytes:
    # Maps are serialized in no fixed order otherwise.
    return message.SerializeToString(deterministic=True)


def _value_type(value: Any) -> tuple[str, int]:
    """Return the field of a protobuf value for a Python value, and TensorBoard's data type."""
    if isinstance(value, bool):
        return "bool_value", DATA_TYPE_BOOL
    if isinstance(value, (int, float)):
        return "number_value", DATA_TYPE_FLOAT64
    return "string_value", DATA_TYPE_STRING
