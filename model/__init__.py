"""Arrays become a model: its settings, towers, loss, training, checkpoints, and photos back from chroma."""
