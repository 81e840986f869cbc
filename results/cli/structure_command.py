"""The command `huetune structure`: draws the layers of a model."""

from pathlib import Path

import click

from huetune.data_tools.cli.options import FOLDER, TEXT
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say
from huetune.data_tools.storage.atomic import require_writable
from huetune.results.cli.options import by_option, storage_option
from huetune.results.records.run_names import complete_run_name


@click.command()
@click.argument("run_or_export_or_preset", type=TEXT, shell_complete=complete_run_name)
@storage_option
@click.option("--out", type=FOLDER, required=True, help="Folder for the pictures.")
@by_option
def structure(run_or_export_or_preset: str, storage: Path, out: Path, by: str | None) -> None:
    """Draw the layers of a model as PNG and SVG.

    Writes one picture each of the encoder, the decoder and the whole model. For a run, draws its best model.

    Example: huetune structure model-2 --out structure
    """
    from huetune.model.presets import PRESETS
    from huetune.results.records.run import find_source

    require_writable(out)
    config = PRESETS.get(run_or_export_or_preset)
    model = None if config else find_source(run_or_export_or_preset, storage)

    from huetune.model.checkpoint import read_checkpoint
    from huetune.model.weights import parameter_counts
    from huetune.results.export.best_model import model_from_source

    if model:
        config = read_checkpoint(model_from_source(model, by)[0]).config
    assert config
    import_tensorflow()
    from huetune.data_tools.storage.output_files import OutputFolder
    from huetune.model.diagram import PICTURES, draw
    from huetune.model.network import build

    network = build(config)
    with OutputFolder(out, "structure") as output:
        files = [output.add(name, content) for name, content in draw(network).items()]
    for name, count in zip(PICTURES, parameter_counts(config).values(), strict=True):
        say(f"{name:14} {count:,} parameters")
    if run_or_export_or_preset in PRESETS:
        say("dropout as in the experiment log; each recipe has its own, see `huetune presets`")
    for file in files:
        say(str(out / file))
