"""How trials are proposed, stopped and recorded: the searcher, samplers, schedulers and the study."""
