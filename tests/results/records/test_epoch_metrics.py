"""The record of an epoch is read back as it was stored."""

from huetune.results.records.epoch_metrics import EpochMetrics

EPOCH = {"epoch": 1, "boxes": 588, "train_seconds": 1.0, "seconds": 2.0, "train_loss": 3.0, "skill": 0.5}


def test_epoch_is_read_back_as_it_was_stored():
    for stored in (EPOCH, {**EPOCH, "checkpoint": "trials/0000/epoch-001"}, {"epoch": 2, "seconds": 1.0}):
        assert EpochMetrics.of(stored).record == stored and list(EpochMetrics.of(stored).record) == list(stored)
    assert dict(EpochMetrics.of(EPOCH)) == {"train_seconds": 1.0, "seconds": 2.0, "train_loss": 3.0, "skill": 0.5}


def test_epoch_from_result_omits_entries_of_tune():
    """Its time, its own names and the score so far are in the same result."""
    tune = {"score": 0.5, "host": "vm", "pid": 1, "time_total_s": 9.0, "training_iteration": 1, "done": True}
    assert EpochMetrics.from_result({**EPOCH, **tune}).record == EPOCH
