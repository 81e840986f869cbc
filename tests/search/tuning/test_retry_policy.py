"""A trial is retried until its workers die three times in a row without an epoch."""

from huetune.results.records.outcomes import Failure, FailureKind
from huetune.search.tuning.retry_policy import MAX_DEATHS, RetryPolicy


def test_retry_policy_gives_up_after_three_deaths_in_a_row():
    policy = RetryPolicy()
    assert [policy.count_death(4) for _ in range(MAX_DEATHS)] == [True, True, False]
    assert policy.count_death(5), "deaths are counted for each trial"


def test_retry_policy_starts_again_after_an_epoch():
    policy = RetryPolicy()
    for _ in range(3):
        assert policy.count_death(0) and policy.count_death(0)
        policy.epoch_finished(0)


def test_retry_policy_calls_a_worker_hung_after_its_timeout():
    now = [0.0]
    policy = RetryPolicy(lambda: now[0])
    policy.report(0)
    now[0] = 14.9
    assert policy.failure(0, "killed", 15.0) == Failure(FailureKind.WORKER_DIED, "killed")
    now[0] = 15.0
    assert policy.failure(0, "killed", 15.0) == Failure(FailureKind.HUNG, seconds=15.0)
    assert policy.failure(0, "killed", None) == Failure(FailureKind.WORKER_DIED, "killed")
    policy.report(0)
    assert policy.failure(0, "killed", 15.0) == Failure(FailureKind.WORKER_DIED, "killed")
