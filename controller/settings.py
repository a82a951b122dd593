"""The controller's settings: flags, and environment variables as their defaults.

The only module that reads the environment.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.api.text import parse_go_duration_s

DEFAULT_NAMESPACE = "drey"
LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the controller runs with. Times are in seconds, empty namespaces mean all."""

    image: str
    namespace: str
    pod_name: str
    pushgateway_url: str
    namespaces: tuple[str, ...]
    kubeconfig: str | None
    http_port: int
    leader_elect: bool
    log_level: str
    job_requests: Mapping[str, str]
    start_timeout_s: float
    verify_interval_s: float
    snapshot_timeout_s: float
    workers: int


def parse_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Parse the command line.

    Raises:
        SystemExit: the command line is wrong, or help was asked for.
    """
    args = _parser(environ).parse_args(argv)
    return Settings(
        image=args.image,
        namespace=args.namespace,
        pod_name=args.pod_name,
        pushgateway_url=args.pushgateway_url.rstrip("/"),
        namespaces=tuple(name for name in args.namespaces.split(",") if name),
        kubeconfig=args.kubeconfig,
        http_port=args.http_port,
        leader_elect=args.leader_elect,
        log_level=args.log_level,
        job_requests=args.job_requests,
        start_timeout_s=args.start_timeout,
        verify_interval_s=args.verify_interval,
        snapshot_timeout_s=args.snapshot_timeout,
        workers=args.workers,
    )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="controller",
        description="Watches the Stash API and runs its backups and restores as Jobs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    image = environ.get("DREY_IMAGE", "")
    parser.add_argument(
        "--image",
        default=image,
        required=not image,
        help="image of the Jobs, the controller's own (env DREY_IMAGE)",
    )
    parser.add_argument(
        "--namespace",
        default=environ.get("POD_NAMESPACE", DEFAULT_NAMESPACE),
        help="namespace of the controller and its Lease (env POD_NAMESPACE)",
    )
    parser.add_argument(
        "--pod-name",
        default=environ.get("POD_NAME", ""),
        help="name of the controller's pod, which gets the leader label (env POD_NAME)",
    )
    parser.add_argument(
        "--pushgateway-url", default="", help="where Jobs push metrics; empty: nowhere"
    )
    parser.add_argument(
        "--namespaces", default="", help="comma-separated namespaces to serve; empty: all"
    )
    parser.add_argument(
        "--kubeconfig",
        default=None,
        help="for running outside of a cluster (env KUBECONFIG is not read)",
    )
    parser.add_argument(
        "--http-port", type=int, default=8080, help="port of /metrics, /healthz and /readyz"
    )
    parser.add_argument(
        "--leader-elect",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="act only while holding the Lease, so that several replicas can run",
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="lowest level")
    parser.add_argument(
        "--job-requests",
        type=_quantities,
        default="cpu=100m,memory=128Mi",
        help="resource requests of Job containers whose runtimeSettings have none",
    )
    parser.add_argument(
        "--start-timeout",
        type=_duration,
        default="10m",
        help="how long the pod of a Job may take to start",
    )
    parser.add_argument(
        "--verify-interval",
        type=_duration,
        default="24h",
        help="how often integrity and size of a repository are determined",
    )
    parser.add_argument(
        "--snapshot-timeout",
        type=_duration,
        default="2h",
        help="how long VolumeSnapshots and restored claims may go without progress",
    )
    parser.add_argument("--workers", type=int, default=2, help="worker threads per kind")
    return parser


def _duration(text: str) -> float:
    seconds = parse_go_duration_s(text)
    if seconds is None or seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive duration such as 10m or 24h")
    return seconds


def _quantities(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split(",") if item)
    result = {name: value for name, _, value in pairs}
    if not all(result) or not all(result.values()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form cpu=100m,memory=128Mi")
    return result
