"""A study in a real PostgreSQL, which crashes during the search and restarts."""

import subprocess

from optuna.trial import TrialState

from huetune.results.records.run import find_run
from tests.faults.chaos import HUETUNE
from tests.faults.postgres import PASSWORD
from tests.faults.program import NAME, ONE_SLOT, search


def test_postgres_study_survives_a_server_crash(postgres, start, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    program = start(tmp_path, *search(3, 20, *ONE_SLOT), "--study", postgres.url)

    def trials():
        return find_run(NAME, tmp_path).study().get_trials(deepcopy=False)

    program.wait_for(lambda trials: sum(len(trial.intermediate_values) for trial in trials) >= 2)
    postgres.stop()
    code, output = program.end()
    assert code == 4 and "huetune resume" in output and "Traceback" not in output, output
    done = subprocess.run(
        [HUETUNE, "trials", NAME, "--storage", tmp_path], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 4 and "the study cannot be opened" in done.stderr
    postgres.start()

    code, output = start(tmp_path, "resume", NAME).end()
    assert code == 0 and " resumed " in output, output
    assert [trial.state for trial in trials()] == [TrialState.COMPLETE] * 3
    assert [list(trial.intermediate_values) for trial in trials()] == [list(range(1, 21))] * 3
    done = subprocess.run(
        [HUETUNE, "verify", NAME, "--quick", "--storage", tmp_path], capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout
    # A run with the same name in another storage would share the study.
    code, output = start(tmp_path / "other", *search(), "--study", postgres.url).end()
    assert code == 4 and "the study cannot be created" in output, output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not [path for path in written if PASSWORD.encode() in path.read_bytes()]
