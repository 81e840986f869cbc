"""Follows a running search, so that its new trials and epochs are exported as they come."""

import time
from collections.abc import Callable

import optuna

from huetune.data_tools.storage.bucket_cache import bucket_path, location_of
from huetune.data_tools.storage.run_lock import lock_holder
from huetune.results.records.run import Run, find_run
from huetune.results.records.study_record import StudyRecord

UPDATE_INTERVAL_SECONDS = 5.0


def follow_search(run: Run, study: optuna.Study, export: Callable[[optuna.Study], int]) -> int:
    """Export a study every few seconds until its search has ended or its process is gone, then a last time.

    Args:
        run: run of the search.
        study: study of the run.
        export: exports what is new in a study and returns a count.

    Returns:
        The sum of the counts.
    """
    count = 0
    while lock_holder(run.folder) and not StudyRecord.of(study).ended:
        time.sleep(UPDATE_INTERVAL_SECONDS)
        if bucket_path(run.folder):
            # The local copy of a bucket is only updated when the run is opened.
            study = find_run(location_of(run.folder)).study()
        count += export(study)
    return count + export(study)
