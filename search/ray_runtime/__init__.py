"""Runs trials on Ray: starts or joins a cluster, defines the workers, and handles the events of Tune's trials."""
