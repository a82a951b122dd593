"""One process that runs for leader: `python -m tests.support.candidate KUBECONFIG NS IDENTITY`.

Prints `looked` once it has seen that another one holds the Lease, and `leading` when it leads
itself; on SIGTERM gives the Lease back, prints `released` and ends with 0; ends with 1 when it
loses the Lease.
"""

import os
import signal
import sys
import threading

from controller.engine.clock import SystemClock
from controller.engine.election import Election
from controller.kube.config import connect
from controller.log import set_up_log


def main() -> None:
    """Run until told to stop."""
    set_up_log(stream=sys.stderr)
    kubeconfig, namespace, identity = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    election = Election(
        connect(kubeconfig, pool_size=2),
        SystemClock(),
        namespace=namespace,
        name="drey",
        identity=identity,
        exit_process=lambda _why: os._exit(1),
    )
    for body in (election.run, election.watch):
        threading.Thread(target=body, daemon=True).start()
    told: set[str] = set()

    def tell(line: str) -> None:
        if line not in told:
            told.add(line)
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    while not stop.wait(0.02):
        if election._holder(election._seen) not in ("", identity):
            tell("looked")
        if election.leading.is_set():
            tell("leading")
    if election.stop():
        sys.stdout.write("released\n")


if __name__ == "__main__":
    main()
