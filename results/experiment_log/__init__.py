"""The experiment log: an entry for each model, with a verdict, in English or Korean."""
