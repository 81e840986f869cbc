"""`Resources`: what a trial takes, and on which Ray cluster it runs. It imports quickly, without Ray."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """CPUs, GPUs and time of a trial, and the address of the cluster.

    Args:
        cpus_per_trial: Ray's CPUs, above 0. Rounded down, but at least 1, this is also the number of TensorFlow's
            threads.
        gpus_per_trial: Ray's GPUs, 0 or more; with 0.5 two trials share one GPU.
        address: address of a running Ray cluster, or `local` for this machine. None is the cluster in RAY_ADDRESS, or
            this machine if that is not set.
        trial_timeout: seconds, above 0. If an epoch takes longer, its worker is considered hung and is replaced. None
            for no limit.

    Raises:
        UserError: a value is out of range.
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
        """The number of threads that TensorFlow may use in a trial."""
        return max(1, int(self.cpus_per_trial))
