"""A model becomes a search: the space, one trial, the searcher, the launch, the command. The only place with Ray."""
