"""What a trial takes of Ray, and which Ray cluster runs it; importing this needs no Ray."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """CPUs, GPUs and time of a trial, and the address of the cluster.

    Args:
        cpus_per_trial: of Ray, above 0; also TensorFlow's threads, rounded down, at least 1.
        gpus_per_trial: of Ray, 0 or more; 0.5 lets two trials share one.
        address: of a running Ray cluster, or `local` for this machine alone; None is this machine, too, unless
            RAY_ADDRESS names a cluster.
        trial_timeout: seconds, above 0, that an epoch may take before its worker counts as hung and is replaced; None
            for no limit.

    Raises:
        UserError: a value is outside of its range.
    """

    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    address: str | None = None
    trial_timeout: float | None = None

    def __post_init__(self) -> None:
        from huetune.search.spec.validation import check_resources

        check_resources(self)

    @property
    def threads(self) -> int:
        """Threads that TensorFlow may use in a trial."""
        return max(1, int(self.cpus_per_trial))
