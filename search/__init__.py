"""Hyperparameter search: specification, Tune searcher, workers and the command. Only this part imports Ray."""
