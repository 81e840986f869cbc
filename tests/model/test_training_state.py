"""A training that is resumed from a training state continues to the same numbers."""

from dataclasses import replace

import numpy as np
import pytest

from huetune.data_tools.common.errors import CheckpointError
from huetune.model import training_state
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.trainer import Trainer

CONFIG = replace(
    with_recipe(PRESETS["model-2"], "photos"), merge_units=16, optimizer="muon", averaging=0.9, dropout=0.3
)


def _without_times(metrics):
    return {name: value for name, value in metrics.items() if "seconds" not in name}


@pytest.fixture(scope="module")
def trained(parts):
    """A trainer after two epochs, its state after the first one, and the metrics of both."""
    trainer = Trainer(parts.training.take(range(4)), parts.validation)
    trainer.start(CONFIG, 7)
    first = trainer.epoch()
    state = trainer.state
    return trainer, state, [first, trainer.epoch()]


@pytest.fixture
def saved(trained, tmp_path):
    _, state, (first, _) = trained
    folder = tmp_path / "0003" / "after-001-abc"
    training_state.save(folder, training_state.TrainingState(CONFIG, 7, [first], state))
    return folder


def test_resume_in_a_fresh_trainer_continues_to_the_last_bit(trained, saved, parts):
    trainer, _, (_, second) = trained
    loaded = training_state.load(saved)
    assert (loaded.config, loaded.seed) == (CONFIG, 7) and [metrics["epoch"] for metrics in loaded.epochs] == [1]
    fresh = Trainer(parts.training.take(range(4)), parts.validation)
    fresh.resume(loaded.config, loaded.seed, loaded.state)
    assert _without_times(fresh.epoch()) == _without_times(second)
    np.testing.assert_array_equal(fresh.draw(), trainer.draw())
    for name, values in fresh.state.items():
        np.testing.assert_array_equal(values, trainer.state[name])
    weights, averages = fresh._step._optimizer.weights, fresh._step._optimizer._averages
    assert all((last.numpy() != average.numpy()).any() for last, average in zip(weights, averages, strict=True))


def test_resume_sets_the_weights_of_the_model_before_any_step(trained, parts):
    trainer, _, _ = trained
    fresh = Trainer(parts.training.take(range(4)), parts.validation)
    fresh.resume(CONFIG, 7, trainer.state)
    np.testing.assert_array_equal(fresh.draw(), trainer.draw())


def test_resume_from_the_state_of_another_model_is_refused(trained, parts):
    _, state, _ = trained
    fresh = Trainer(parts.training.take(range(4)), parts.validation)
    with pytest.raises(ValueError, match="shape"):
        fresh.resume(replace(CONFIG, merge_units=32), 7, state)
    with pytest.raises(ValueError, match=rf"the training state has {len(state) + 1} arrays, expected {len(state)}$"):
        fresh.resume(CONFIG, 7, {**state, "more": np.zeros(3)})
    # The state of an older huetune has no average of the weights.
    older = {name: values for name, values in state.items() if name not in ("optimizer-2", "optimizer-3")}
    with pytest.raises(ValueError, match=rf"the training state has {len(state) - 2} arrays, expected {len(state)}$"):
        fresh.resume(CONFIG, 7, older)


@pytest.mark.parametrize("name", [training_state.STATE_FILE, training_state.LOG])
def test_load_of_a_damaged_state_is_refused(saved, name):
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 4
    (saved / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        training_state.load(saved)


def test_newest_returns_states_by_falling_epoch(tmp_path):
    for name in ("after-009-b", "after-010-a", "after-1000-c", "epoch-011-a"):
        (tmp_path / name).mkdir()
    assert [path.name for path in training_state.newest(tmp_path)] == ["after-1000-c", "after-010-a", "after-009-b"]
