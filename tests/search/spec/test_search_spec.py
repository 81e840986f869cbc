"""Specifications are validated in one place, without Ray, for the command, Python and manifests."""

import json
from dataclasses import fields

import pytest

from huetune.data_tools.cli.options import split_list
from huetune.data_tools.common.errors import UserError
from huetune.results.records.run import MANIFEST
from huetune.search.cli.main import cli
from huetune.search.spec.manifest import load_search
from huetune.search.spec.resources import Resources
from huetune.search.spec.search_spec import SCHEDULERS, SEARCHERS, Search
from huetune.search.tuning.sampler import SAMPLERS
from huetune.search.tuning.schedulers import SCHEDULERS as RAY_SCHEDULERS
from tests.interpreter import output_of
from tests.results.synthetic_run import make_run
from tests.search.builders import make_search

OF_RESOURCES = {field.name for field in fields(Resources)}

# The option, its field and value in Python and in a manifest, and the whole message.
BAD = [
    ("--trials 0", "trials", 0, "trials must be 1 or more, received 0"),
    ("--trials 1000001", "trials", 1_000_001, "trials must be 1,000,000 or less, received 1000001"),
    ("--epochs -1", "epochs", -1, "epochs must be 1 or more, received -1"),
    ("--seed -1", "seed", -1, "seed must be 0 or more, received -1"),
    ("--seed 2147483648", "seed", 2**31, "seed must be 2,147,483,647 or less, received 2147483648"),
    ("--stop-when-flat 0", "stop_when_flat", 0, "stop-when-flat must be 1 or more, received 0"),
    ("--time-budget 0s", "time_budget", 0.0, "time-budget must be above 0, received 0.0"),
    (
        "--searcher bayes",
        "searcher",
        "bayes",
        "searcher must be one of tpe, random, grid, cmaes, nsga2, received 'bayes'",
    ),
    ("--searcher cmaes", "searcher", "cmaes", None),
    (
        "--scheduler pbt",
        "scheduler",
        "pbt",
        "scheduler must be one of asha, hyperband, median, none, received 'pbt'",
    ),
    (
        "--objective loss",
        "objectives",
        ("loss",),
        "objective must be one of chroma_mse, skill, chroma_ratio_error, received 'loss'",
    ),
    (
        "--confirm 3x1",
        "confirm",
        (3, 1),
        "confirm must be 1 or more finalists with 2 or more seeds each, received (3, 1)",
    ),
    ("--mlflow nonsense://x", "mlflow", "nonsense://x", None),
    ("--warm-start model-9", "warm_start", ("model-9",), None),
    ("--cpus-per-trial nan", "cpus_per_trial", float("nan"), "cpus-per-trial must be above 0, received nan"),
    ("--gpus-per-trial -1", "gpus_per_trial", -1.0, "gpus-per-trial must be 0 or more, received -1.0"),
    ("--trial-timeout 0s", "trial_timeout", 0.0, "trial-timeout must be above 0, received 0.0"),
]


def _in_python(field, value):
    if field in OF_RESOURCES:
        make_search(resources=Resources(**{field: value}))
    else:
        make_search(**{field: value})


def _in_manifest(field, value, folder):
    run = make_run(folder, 1)
    manifest = run.manifest
    extensible = {"trials": 1, "epochs": 8, "time_budget": None, "stop_when_flat": None}
    manifest["search"] |= extensible
    manifest["cluster" if field in OF_RESOURCES else "search"][field] = value
    if field == "searcher":  # the space of this run would do for cmaes
        del manifest["space"]["mse_weight"]
    (run.folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    if field in extensible:  # then the study's value counts
        run.search_study.set_user_attr("asked", {**run.search_study.user_attrs["asked"], field: value})
    load_search(run)


@pytest.mark.parametrize(("typed", "field", "value", "message"), BAD, ids=[typed for typed, *_ in BAD])
def test_bad_value_has_one_message_in_every_interface(typed, field, value, message, run_command, tmp_path, monkeypatch):
    """The command, Python and manifests used to have different messages, or none."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        _in_python(field, value)
    assert str(refused.value) == (message or str(refused.value))
    with pytest.raises(UserError) as recalling:
        _in_manifest(field, value, tmp_path / "made")
    assert str(recalling.value) == str(refused.value)
    assert run_command(f"search {typed}") == (2, "", f"huetune: {refused.value}\n")


@pytest.mark.parametrize("value", ["12", 2.5, True, None])
def test_search_with_a_trial_count_of_another_type_is_refused(value):
    """A damaged manifest may have any type; the error used to be a traceback."""
    with pytest.raises(UserError, match="trials must be a whole number, received "):
        make_search(trials=value)


WITHOUT_RAY = """
import sys
from pathlib import Path
from huetune.data_tools.common.errors import UserError
from huetune.model.presets import PRESETS
from huetune.search.spec import validation
from huetune.search.spec import manifest
from huetune.search.spec.search_spec import Search
from huetune.search.spec.resources import Resources
from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space
space = parse_space(DEFAULT_SPACE, PRESETS["model-2"])
Search("fine", Path("runs"), space, Resources(cpus_per_trial=2))
for bad in (lambda: Search("fine", Path("runs"), space, searcher="cmaes"), lambda: Resources(cpus_per_trial=0)):
    try:
        bad()
    except UserError as error:
        print(error)
print(sorted({"ray", "tensorflow"} & set(sys.modules)))
"""


def test_search_is_validated_without_ray():
    cmaes, cpus, imported = output_of("-P", "-c", WITHOUT_RAY).splitlines()
    assert cmaes.startswith("searcher cmaes needs one objective") and cpus.startswith("cpus-per-trial must be above 0")
    assert imported == "[]"


def test_searcher_and_scheduler_names_are_implemented():
    assert tuple(SAMPLERS) == SEARCHERS and tuple(RAY_SCHEDULERS) == SCHEDULERS


def test_search_options_default_to_those_of_the_dataclass():
    """Options whose default depends on other options are None; their help describes the default."""
    typed = cli.commands["search"].make_context("search", []).params
    expected = {field.name: field.default for kind in (Search, Resources) for field in fields(kind)}
    own = (typed.keys() & expected.keys()) - {"name", "storage", "space"}
    assert {"epochs", "searcher", "seed", "cpus_per_trial", "time_budget"} <= own
    dependent = {"trials", "scheduler", "confirm", "warm_start"}
    assert {name: typed[name] for name in own} == {name: None if name in dependent else expected[name] for name in own}
    assert split_list(typed["objective"]) == Search.objectives
