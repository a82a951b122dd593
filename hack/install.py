"""Installs Drey, as it is in this tree, in the cluster of `make cluster`, or removes it.

Users do the same with two commands, which this prints: `kubectl apply --server-side -k`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE = "drey"
BUILD = "drey.dev/image-id"
"""Annotation of the pod template: a new build under an old tag must start new pods."""


def main() -> int:
    """Run one verb; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("up", "down"))
    verb = parser.parse_args().verb
    info = json.loads(_output(sys.executable, "hack/cluster", "info"))
    os.environ["KUBECONFIG"] = info["kubeconfig"]
    os.environ["PATH"] = f"{info['binaries']}:{os.environ['PATH']}"
    try:
        _install() if verb == "up" else _run("kubectl", "delete", "-k", "manifests")
    except subprocess.CalledProcessError as err:
        return int(err.returncode)
    return 0


def _install() -> None:
    image = json.loads(_output(sys.executable, "hack/image", "info"))
    _run("kubectl", "apply", "--server-side", "-k", "manifests/crds")
    crds = _output("kubectl", "get", "-k", "manifests/crds", "-o", "name").split()
    _run("kubectl", "wait", "--for=condition=Established", "--timeout=60s", *crds)
    # What a test that was stopped half-way left on the Deployment gives way.
    _run("kubectl", "apply", "--server-side", "--force-conflicts", "-k", "manifests")
    patch = {"spec": {"template": {"metadata": {"annotations": {BUILD: image["id"]}}}}}
    _run("kubectl", "-n", NAMESPACE, "patch", "deployment", "drey", "-p", json.dumps(patch))
    _run("kubectl", "-n", NAMESPACE, "rollout", "status", "deployment/drey", "--timeout=120s")


def _run(*argv: str) -> None:
    print(f"$ {' '.join(argv)}", flush=True)
    subprocess.run(argv, check=True, cwd=ROOT)


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, cwd=ROOT, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
