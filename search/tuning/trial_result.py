"""The keys of the results that a worker reports to Tune, besides the epoch's metrics."""

SCORE = "score"
"""Key of a result: the best value of the objective so far, by which Tune schedules trials."""
FAILURE, STORAGE_ERROR, REFUSAL = "failure", "storage", "refused"
"""Keys of a final result without an epoch: the `FailureKind` of a trial that failed; or a message that stops the
search, because the run cannot be read or written, or because this worker must not train."""
