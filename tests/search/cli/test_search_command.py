"""The command `search`."""


def test_search_without_resources_for_a_trial_leaves_no_run(huetune, tmp_path):
    done = huetune("search", "--cpus-per-trial", 1000, "--quiet", cwd=tmp_path)
    assert done.returncode == 2
    assert "Ray has too few resources for a trial: CPUs " in done.stderr and "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.name != "runs"] == []
