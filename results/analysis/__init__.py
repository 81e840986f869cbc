"""Statistics of trials: confidence intervals, replicates, effects of settings, and the winner."""
