"""`python3 -I -m runner VERB`: the entrypoint of the Jobs.

argparse comes before anything else, so that `--help` and mistakes cost nothing (D31).
"""

import argparse
import sys
from pathlib import Path

_INPUT = "Input: the JSON document in the environment variable DREY_INPUT, the storage Secret in"

_CREATES = (
    "It does not wait until they are ready, and reports only what could not be created. What this"
    " session has created before counts as created: it may be started again after any end."
)
_AT_THE_API = {
    "snapshot": f"{_CREATES} On a foreign VolumeSnapshot of that name the name gets a suffix.",
    "restore-snapshot": f"{_CREATES} A foreign claim is left alone and reported.",
    "hook": "It acts on all pods at once, also where one fails. One that may act twice, because it"
    " sets an application going again, asks until its time is over wherever it gets no answer.",
}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(
        prog="runner",
        description="Runs one step of a backup or restore. The controller starts it in Jobs.",
        epilog=f"{_INPUT} /drey/secret. Output: JSON log lines on stdout, the report in"
        " /dev/termination-log. Exit codes: 0 done, 1 failed (the report says why), 2 wrong usage,"
        " 130 told to stop.",
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    folder = "write DIR/output.json for a later update-status, and no report; exits with 0"
    backup = verbs.add_parser(
        "backup", help="back up the paths with restic, apply retention, push metrics, report"
    )
    backup.add_argument("--output-dir", metavar="DIR", type=_folder, help=f"only back up; {folder}")
    restore = verbs.add_parser("restore", help="restore snapshots into the volume, report")
    restore.add_argument(
        "--output-dir", metavar="DIR", type=_folder, help=f"only restore; {folder}"
    )
    status = verbs.add_parser(
        "update-status", help="read output.json of an earlier step, apply retention, report"
    )
    status.add_argument("--output-dir", metavar="DIR", type=Path, required=True)
    for name, short, rights in (
        ("snapshot", "create the VolumeSnapshots of a session at once", "get, create"),
        ("restore-snapshot", "create the claims of a session at once", "get, create"),
        (
            "hook",
            "run a hook: exec in the application's pods, http, tcp",
            "get and list pods, exec",
        ),
    ):
        verbs.add_parser(
            name,
            help=f"{short}; report",
            description=f"{short[0].upper()}{short[1:]}. {_AT_THE_API[name]}",
            epilog=f"Input: DREY_INPUT, and the pod's ServiceAccount ({rights}) or KUBECONFIG."
            " Output and exit codes: see runner --help.",
        )
    verbs.add_parser("trigger", help="create the BackupSession of a schedule (run by a CronJob)")
    verbs.add_parser("unlock", help="remove stale locks of this host name; never live ones")
    return top


def _folder(text: str) -> Path | None:
    """Return a folder, None of an empty text: a variable of a Function that nobody has set."""
    return Path(text) if text else None


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    arguments = parser().parse_args(argv)
    match arguments.verb:
        case "trigger":
            from runner.trigger import main as at_the_api  # noqa: PLC0415 - talks to the API: heavy
        case "snapshot" | "restore-snapshot":
            from runner.creation import main as at_the_api  # noqa: PLC0415 - as above
        case "hook":
            from runner.hook import main as at_the_api  # noqa: PLC0415 - as above
        case _:
            return _restic(arguments)
    return at_the_api()


def _restic(arguments: argparse.Namespace) -> int:
    from runner.execution import Execution  # noqa: PLC0415 - after argparse (D31)
    from runner.restic.process import Interruption  # noqa: PLC0415 - after argparse (D31)
    from runner.settings import Settings  # noqa: PLC0415 - after argparse (D31)

    interruption = Interruption()
    interruption.install()
    execution = Execution(Settings.read(), interruption)
    match arguments.verb:
        case "backup":
            return execution.backup(arguments.output_dir)
        case "restore":
            return execution.restore(arguments.output_dir)
        case "update-status":
            return execution.update_status(arguments.output_dir)
        case _:
            return execution.unlock()


if __name__ == "__main__":
    sys.exit(main())
