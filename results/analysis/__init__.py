"""What the trials say: confidence intervals, replicates, effects of settings, and the winner."""
