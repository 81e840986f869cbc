"""The best model as a portable folder, with a model card."""
