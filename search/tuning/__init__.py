"""Chooses, stops, retries and records trials: Tune's searcher and its parts, samplers and schedulers."""
