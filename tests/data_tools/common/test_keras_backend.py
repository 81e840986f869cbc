"""A model is the same on each machine, whatever the settings of Keras there."""

import ast
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from huetune.data_tools.common.keras_backend import keras
from huetune.model import npz
from huetune.model.cli import train
from tests.interpreter import output_of

CHECKOUT = Path(__file__).parents[3]
HOSTILE = {"floatx": "float16", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first"}
VARIABLES = {"KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "few", "KERAS_NNX_ENABLED": "1", "TF_USE_LEGACY_KERAS": "1"}
OPTIONS = "--garden", 4, "--limit", 1, "--epochs", 1, "--out"


def _imports(path: Path) -> set[str]:
    modules: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            modules += [str(word.value) for word in node.args if isinstance(word, ast.Constant)]
    return {module.partition(".")[0] for module in modules}


def test_modules_import_keras_from_keras_backend_only():
    """A module that imported Keras or TensorFlow directly, and first, would get them with the machine's settings."""
    folders = ("data_tools", "model", "results", "search", "tests/benchmarks")
    paths = [path for folder in folders for path in (CHECKOUT / folder).rglob("*.py")]
    importing = [path.relative_to(CHECKOUT) for path in paths if _imports(path) & {"keras", "tensorflow"}]
    assert importing == [Path("data_tools/common/keras_backend.py")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, bytes]:
    """The weights of a small training."""
    return _train(tmp_path_factory.mktemp("trained") / "model")


def _train(folder: Path) -> dict[str, bytes]:
    done = CliRunner().invoke(train, [*map(str, OPTIONS), str(folder)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return _weights(folder)


def _weights(folder: Path) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in npz.read(folder / "weights.npz").items()}


def test_train_with_hostile_keras_settings_learns_the_same(trained, huetune, tmp_path, monkeypatch):
    """float16 made checkpoints that were refused, channels_first and jax failed, float64 changed the weights."""
    (tmp_path / "keras.json").write_text(json.dumps(HOSTILE), encoding="utf-8")
    for name, value in {**VARIABLES, "KERAS_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    done = huetune("train", *OPTIONS, tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert _weights(tmp_path / "model") == trained


def test_notebook_settings_change_no_weight_and_are_kept(trained, tmp_path):
    """A notebook may change Keras's settings before a model is built and while it is used."""
    before, hostile = _settings(), ("float16", "channels_first", 0.1, "mixed_bfloat16")
    _change(*hostile)
    try:
        assert _train(tmp_path / "model") == trained
        assert _settings() == hostile
    finally:
        _change(*before)


def _settings() -> tuple[str, str, float, str]:
    config = keras.config
    return config.floatx(), config.image_data_format(), config.epsilon(), config.dtype_policy().name


def _change(floatx: str, image_data_format: str, epsilon: float, dtype_policy: str) -> None:
    keras.config.set_floatx(floatx)
    keras.config.set_image_data_format(image_data_format)
    keras.config.set_epsilon(epsilon)
    keras.config.set_dtype_policy(dtype_policy)


def _python(code: str, **variables: str) -> str:
    return output_of("-c", code, folder=CHECKOUT, environment={**os.environ, **variables})


def test_notebook_with_other_backend_is_refused():
    """A backend cannot be changed after the import. JAX is not installed here, so Keras's record of it is changed."""
    output = _python(
        "import keras\n"
        "keras.src.backend.config._BACKEND = 'jax'\n"
        "from huetune.data_tools.common.tensorflow_import import import_tensorflow\n"
        "from huetune.data_tools.common.errors import UserError\n"
        "try: import_tensorflow()\n"
        "except UserError as error: print(error)",
        KERAS_BACKEND="tensorflow",
    )
    assert output.count("\n") == 1 and "'jax'" in output and "KERAS_BACKEND=tensorflow" in output


def test_import_with_broken_keras_json_changes_nothing_outside(tmp_path):
    """Keras alone cannot be imported then, and it writes its settings file if there is none, as in this home."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    (elsewhere / "keras.json").write_text('["float16"]', encoding="utf-8")
    output = _python(
        "import os\n"
        "before = dict(os.environ)\n"
        "from huetune.data_tools.common.keras_backend import keras\n"
        "from keras.src.backend.config import keras_home\n"
        "changed = {name for name, value in set(before.items()) ^ set(os.environ.items())}\n"
        "print(changed - {'TF2_BEHAVIOR'}, keras_home())",
        **{**VARIABLES, "HOME": str(home), "KERAS_HOME": str(elsewhere)},
    )
    assert output == f"set() {elsewhere}\n"
    assert not list(home.iterdir())
    assert (elsewhere / "keras.json").read_text(encoding="utf-8") == '["float16"]'
