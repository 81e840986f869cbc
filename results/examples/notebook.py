# %% [markdown]
# # Explore a search in a notebook
# First run a search: `huetune search --name roses --trials 4 --epochs 3`. Then open this file in Jupyter (with
# jupytext), VS Code or another editor that supports `# %%` cells, or run it as a script:
# `python results/examples/notebook.py`.

# %%
from PIL import Image

import huetune
from huetune.data_tools.datasets.synthetic_garden import garden

run = huetune.open_run("roses")
run

# %% [markdown]
# Trials (best first), epochs and effects of the settings are pandas DataFrames.

# %%
frame = run.frame()
print(frame[["trial", "state", "score", "epochs"]])

# %%
slowest = run.epochs().groupby("trial")["seconds"].sum().idxmax()
print(f"trial {slowest} took the longest")

# %%
run.effects()

# %% [markdown]
# Charts are shown as SVG; `.chart` is the Altair object, which you can change.

# %%
curves = run.curves()
curves.save("curves.svg")
curves

# %%
run.history()

# %% [markdown]
# The best model is a Keras model with the layers `encoder` and `decoder`.

# %%
model = run.model()
print(f"{model.count_params():,} parameters, {model.get_layer('decoder').count_params():,} in the decoder")

# %% [markdown]
# The contact sheet shows colorized test photos of the search. The model colorizes any other photo, too.

# %%
run.contact_sheet()

# %%
scene = Image.fromarray(garden(1, seed=1)[0])
colored = run.colorize(scene.convert("L"), samples=3)
colored.save("colored.png")
colored
