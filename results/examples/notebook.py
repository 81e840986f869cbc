# %% [markdown]
# # A search, looked at in a notebook
# First a search: `huetune search --name roses --trials 4 --epochs 3`. Then open this file in Jupyter (with jupytext),
# VS Code or any editor that knows `# %%` cells, or run it as it is: `python results/examples/notebook.py`.

# %%
from PIL import Image

import huetune
from huetune.data_tools.datasets.synthetic_garden import garden

run = huetune.open_run("roses")
run

# %% [markdown]
# The trials are a frame of pandas, the best first; so are their epochs, and what each setting does.

# %%
frame = run.frame()
print(frame[["trial", "state", "score", "epochs"]])

# %%
slowest = run.epochs().groupby("trial")["seconds"].sum().idxmax()
print(f"trial {slowest} took longest")

# %%
run.effects()

# %% [markdown]
# Charts show themselves; `.chart` is Altair's, to go on with.

# %%
curves = run.curves()
curves.save("curves.svg")
curves

# %%
run.history()

# %% [markdown]
# The best model is one of Keras. Its encoder and decoder are layers of it.

# %%
model = run.model()
print(f"{model.count_params():,} parameters, {model.get_layer('decoder').count_params():,} in the decoder")

# %% [markdown]
# Test photos of the search in its colors, and any other photo.

# %%
run.contact_sheet()

# %%
scene = Image.fromarray(garden(1, seed=1)[0])
colored = run.colorize(scene.convert("L"), samples=3)
colored.save("colored.png")
colored
