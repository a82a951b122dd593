"""`make demo`, `make demo-snapshot`: a backup on a schedule and its restore, as a user sees them.

On a real cluster, with commands that a user could type.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import restic
import snapshot
from files import NodeError
from terminal import Failure, Scene, run, say

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = [sys.executable, str(ROOT / "hack" / "cluster")]
DEMOS = {"restic": restic, "snapshot": snapshot}


def main(name: str) -> int:
    """Run one demo; return the exit code."""
    demo = DEMOS[name]
    started = time.monotonic()
    done = subprocess.run([*CLUSTER, "up"], check=False)
    if done.returncode:
        return done.returncode
    try:
        subprocess.run([*CLUSTER, "s3", "start"], check=True)
        info = json.loads(run(*CLUSTER, "info"))
        os.environ["KUBECONFIG"] = info["kubeconfig"]
        os.environ["PATH"] = f"{info['binaries']}:{os.environ['PATH']}"
        say("install Drey")
        subprocess.run(["make", "--no-print-directory", "-C", str(ROOT), "install"], check=True)
        demo.play(Scene(demo.NAMESPACE, info))
    except (Failure, NodeError) as err:
        print(f"\ndemo failed: {err}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as err:  # it has said why
        print(f"\ndemo failed: {' '.join(err.cmd)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\ndemo passed in {time.monotonic() - started:.0f} s: {demo.LAST_WORDS}.")
    print(f"Look around with: export KUBECONFIG={info['kubeconfig']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else "restic"))
