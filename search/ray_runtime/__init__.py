"""Ray: a local or remote cluster, the workers, and the events of trials."""
