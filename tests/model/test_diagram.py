"""The pictures of a structure show the layers that are trained, at a readable size."""

import re
from dataclasses import replace
from html import unescape

import pytest
from click.testing import CliRunner
from PIL import Image

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.model.checkpoint import read_checkpoint
from huetune.model.diagram import FORMAT_DPI, PICTURES, draw, missing_graphviz
from huetune.model.network import build
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.weights import parameter_counts
from huetune.results.cli.structure_command import structure
from huetune.results.export.best_model import find_model
from tests.allowed_skips import needs

graphviz = needs("graphviz")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder with pictures of model-2 for single patches, and of model-1 for whole photos with channel dropout."""
    folder = tmp_path_factory.mktemp("structure")
    channels = replace(with_recipe(PRESETS["model-1"], "photos"), dropout=0.45, dropout_of="channels")
    configs = {"patches": PRESETS["model-2"], "photos": channels}
    for name, config in configs.items():
        (folder / name).mkdir()
        for file, content in draw(build(config)).items():
            (folder / name / file).write_bytes(content)
    return configs, folder


def visible_text(path) -> str:
    return unescape(re.sub("<[^>]+>", " ", path.read_text(encoding="utf-8")))


@graphviz
@pytest.mark.parametrize("kind", ["patches", "photos"])
def test_diagram_nodes_add_up_to_all_parameters(kind, drawn):
    configs, folder = drawn
    for name, count in zip(PICTURES, parameter_counts(configs[kind]).values(), strict=True):
        title, *nodes = (
            int(number.replace(",", ""))
            for number in re.findall(r"([\d,]+) parameters", visible_text(folder / kind / f"{name}.svg"))
        )
        assert title == sum(nodes) == count


@graphviz
def test_diagram_files_have_a_readable_size(drawn):
    """Keras's own picture would be 6,000 pixels wide."""
    _, folder = drawn
    assert {path.name for path in (folder / "patches").iterdir()} == {f"{a}.{b}" for a in PICTURES for b in FORMAT_DPI}
    for path in folder.rglob("*.png"):
        width, height = Image.open(path).size
        assert 700 < width < 1200 and 400 < height < 1400
    for path in folder.rglob("*.svg"):
        text = path.read_text(encoding="utf-8")
        (size,) = re.findall(r'viewBox="0.00 0.00 ([\d.]+) ([\d.]+)"', text)
        assert 'transform="scale(1 1)' in text, "Graphviz scales the drawing but not the viewBox, which cuts it off"
        assert [float(side) > 400 for side in size] == [True, True]


@graphviz
def test_diagram_shows_layers_shapes_and_dropout_of_one_patch(drawn):
    _, folder = drawn
    patches, photos = (visible_text(folder / kind / "encoder.svg") for kind in ("patches", "photos"))
    for text in (patches, photos):
        assert re.search(r"encoder_112_conv_0\s+conv 3x3, silu → 12 x 12 x 16\s+160 parameters", text)
        assert re.search(r"encoder_112_conv_4\s+conv 3x3, silu → 4 x 4 x 48", text)
        assert text.count("layers as in encoder_112") == 3 and "None" not in text
    assert "encoder_112_with_view" in patches and "encoder_112_with_view" not in photos
    assert patches.count("dropout 0.45") == 6 and "dropped" not in patches
    assert photos.count("dropout 0.45") == 1 and photos.count("50% of channels dropped") == 5
    assert re.search(r"chroma\s+dense, tanh → 2\s", visible_text(folder / "patches" / "decoder.svg"))


def test_draw_without_graphviz_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    message = missing_graphviz()
    assert message and "apt-get install graphviz" in message and "\n" not in message
    with pytest.raises(UserError, match="apt-get install graphviz"):
        draw(build(PRESETS["model-1"]))
    done = CliRunner().invoke(structure, ["model-1", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError) and not (tmp_path / "out").exists()


@graphviz
def test_structure_of_a_run_draws_its_best_model(searched, tmp_path):
    done = CliRunner().invoke(structure, ["tiny", "--storage", str(searched[0]), "--out", str(tmp_path / "of-run")])
    assert done.exit_code == 0, done.output
    assert "of the log" not in done.output
    config = read_checkpoint(find_model("tiny", searched[0])[0]).config
    for name, content in draw(build(config), ["svg"]).items():
        (tmp_path / name).write_bytes(content)
        # Graphviz also writes the names of the nodes, which are memory addresses.
        seen, expected = (
            re.sub(r"\d{9,}", "", visible_text(path / name)).split() for path in (tmp_path / "of-run", tmp_path)
        )
        assert sorted(seen) == sorted(expected) and len(seen) > 50


@graphviz
def test_diagram_omits_dropout_of_layers_that_drop_nothing(tmp_path):
    """A multiple of 8 channels is kept, so a rate of 0.1 drops none of 16."""
    config = replace(PRESETS["model-1"], dropout=0.1, dropout_of="channels")
    (tmp_path / "encoder.svg").write_bytes(draw(build(config), ["svg"])["encoder.svg"])
    text = visible_text(tmp_path / "encoder.svg")
    assert text.count("17% of channels dropped") == 2 == text.count("channels dropped")


@graphviz
def test_structure_command_replaces_only_its_own_pictures(tmp_path):
    """A picture of the user has the name of a drawn one, which then gets another name."""
    (tmp_path / "encoder.png").write_bytes(b"mine")
    for preset in ("model-1", "model-2"):
        done = CliRunner().invoke(structure, [preset, "--out", str(tmp_path)])
        assert done.exit_code == 0 and f"{tmp_path / 'encoder_2.png'}\n" in done.output
        assert "dropout as in the experiment log; each recipe has its own" in " ".join(done.output.split())
    assert (tmp_path / "encoder.png").read_bytes() == b"mine"
    names = {f"{part}.{form}" for part in PICTURES for form in FORMAT_DPI}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "encoder_2.png", RECORD_FILE}
    assert "602,082 parameters" in visible_text(tmp_path / "decoder.svg")
