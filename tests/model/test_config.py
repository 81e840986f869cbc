"""Invalid settings are refused in one line that names the setting and its valid values."""

import pytest

from huetune.data_tools.common.errors import UserError
from huetune.model.config import Config, with_current_names
from huetune.model.presets import PRESET_SETTINGS, PRESETS
from huetune.model.recipes import RECIPES, with_recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mse_weight": 0.0}, "mse_weight must be above 0, received 0.0"),
        ({"mse_weight": float("nan")}, "mse_weight must be above 0, received nan"),
        ({"mse_weight": float("inf")}, "mse_weight must be above 0, received inf"),
        ({"mse_weight": True}, "mse_weight must be a number, received True"),
        ({"mse_weight": "4"}, "mse_weight must be a number, received '4'"),
        ({"activation": "swish2"}, "activation must be one of relu, silu, gelu, elu, tanh, leaky_relu"),
        ({"skip": 1}, "skip must be true or false, received 1"),
        ({"merge_units": 0}, "merge_units must be 1 to 4096, received 0"),
        ({"merge_units": 96.5}, "merge_units must be a whole number, received 96.5"),
        ({"positions": 3}, "positions must be 2 or 7, received 3"),
        ({"dropout": 1.0}, "dropout must be 0 up to but not including 1, received 1.0"),
        ({"dropout_of": "pixels"}, "dropout_of must be one of units, channels, dense, received 'pixels'"),
        ({"averaging": 1.0}, "averaging must be 0 up to but not including 1, received 1.0"),
        ({"averaging": -0.1}, "averaging must be 0 up to but not including 1, received -0.1"),
        ({"clip": -1.0}, "clip must be 0 or more, received -1.0"),
        ({"weight_decay": -0.5}, "weight_decay must be 0 or more, received -0.5"),
        ({"l2": -1e-9}, "l2 must be 0 or more, received -1e-09"),
        ({"l2": float("nan")}, "l2 must be 0 or more, received nan"),
        ({"initial": "zeros"}, "initial must be one of glorot, he, received 'zeros'"),
        ({"centered": 0.45}, "centered must be true or false, received 0.45"),
        ({"encoder_side": 0}, "encoder_side must be 1 to 14, received 0"),
        ({"encoder_side": 15}, "encoder_side must be 1 to 14, received 15"),
        ({"optimizer": "sgd"}, "optimizer must be one of adam, muon, received 'sgd'"),
        ({"batching": "photo"}, "batching must be one of patches, photos, received 'photo'"),
        ({"mse_wieght": 2.0}, "unknown setting 'mse_wieght': did you mean 'mse_weight'?"),
    ],
)
def test_config_of_an_invalid_value_names_the_valid_ones(values, message):
    with pytest.raises(UserError) as refused:
        Config.of(values)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_config_reads_boxes_as_patches():
    """Released models and runs store the older name of the recipe."""
    assert Config.of({"batching": "boxes"}) == Config(batching="patches")
    assert with_current_names({"batching": "boxes", "l2": 0.1}) == {"batching": "patches", "l2": 0.1}
    with pytest.raises(UserError, match="batching must be a word, received "):
        Config.of({"batching": ["boxes"]})


def test_presets_differ_and_have_the_recipe_of_the_log():
    assert len(set(PRESETS.values())) == len(PRESETS) == 5
    for config in PRESETS.values():
        assert (config.batching, config.batch_size, config.learning_rate, config.decay) == ("patches", 32, 0.001, 1e-6)
        assert (config.optimizer, config.weight_decay, config.clip, config.flips) == ("adam", 0.0, 0.0, False)
        assert (config.dropout, config.dropout_of, config.l2, config.initial) == (0.45, "units", 0.001, "glorot")
        assert (config.centered, config.encoder_side, config.averaging) == (False, 14, 0.0)


@pytest.mark.parametrize("batching", RECIPES)
def test_with_recipe_keeps_structure_and_loss_weight(batching):
    assert with_recipe(PRESETS["model-6"], batching).structure == PRESETS["model-6"].structure
    assert with_recipe(PRESETS["model-6"], batching).mse_weight == PRESETS["model-6"].mse_weight


def test_structure_does_not_depend_on_training_settings():
    settings = {"mse_weight": 8.0, "learning_rate": 0.1, "dropout": 0.1, "dropout_of": "channels", "l2": 0.0}
    settings |= {"initial": "he", "centered": True, "encoder_side": 3, "averaging": 0.9}
    assert Config.of(settings).structure == Config().structure
    assert Config(skip=False).structure != Config().structure


@pytest.mark.parametrize("batching", RECIPES)
def test_with_recipe_replaces_all_training_settings(batching):
    """No training setting of the model before is kept."""
    fields = set(Config.__dataclass_fields__)
    assert set(RECIPES[batching]) == fields - {*PRESET_SETTINGS, "batching"}
    unusual = {"dropout": 0.31, "l2": 0.1, "decay": 0.7, "clip": 9.0, "learning_rate": 0.3, "batch_size": 5}
    unusual |= {"averaging": 0.123, "weight_decay": 0.7, "encoder_side": 2}
    assert with_recipe(Config.of(unusual), batching) == with_recipe(Config(), batching)
