"""How much longer one backup takes than restic itself: by Drey, and by a bare Job."""

from collections.abc import Mapping

from hack.bench import bare, figures
from tests.support.audit import OPERATOR, Audit, Request
from tests.support.cluster import Cluster, Space

WARM_UPS = 2
MOST_RATIO, MOST_MORE_S, MOST_REACTION_S = 1.25, 0.3, 0.3
FILES = """
mkdir -p /data/files; i=0
while [ $i -lt 200 ]; do echo "file $i" > /data/files/$i; i=$((i + 1)); done
head -c 4000000 /dev/urandom > /data/files/random
"""


def run(cluster: Cluster, runs: int, quick: bool) -> None:  # noqa: FBT001 - one of four alike
    """Measure in turns, so that both see the same machine, and print."""
    del quick
    drey: dict[str, list[float]] = {"total": [], "restic": [], "rest": [], "reaction": []}
    plain: dict[str, list[float]] = {"total": [], "restic": [], "rest": [], "ended": []}
    with cluster.space("bench-overhead") as space:
        bare.initialise(space, "repo", bare.REPOSITORY)
        space.ready()
        space.exec("app", FILES)
        for number in range(-WARM_UPS, runs):
            name = f"warm-{-number}" if number < 0 else f"run-{number}"
            figures.progress(f"overhead: {name} of {runs}")
            ours, theirs = _drey(space, name), _bare(space, f"bare-{name}")
            if number < 0:
                continue
            for series, values in ((drey, ours), (plain, theirs)):
                for key, value in values.items():
                    series[key].append(value)
    _print(runs, drey, plain)


def _print(runs: int, drey: Mapping[str, list[float]], plain: Mapping[str, list[float]]) -> None:
    figures.table(
        f"One backup of 200 files, steady state, {runs} runs",
        "s",
        [
            ("Drey: session created → final phase", drey["total"]),
            ("    of it restic", drey["restic"]),
            ("    of it not restic", drey["rest"]),
            ("bare Job: created → Complete", plain["total"]),
            ("    of it restic", plain["restic"]),
            ("    of it not restic", plain["rest"]),
            ("    not restic, without the Job controller's part", plain["ended"]),
            ("Drey: kubelet's status PATCH → final phase", drey["reaction"]),
        ],
    )
    ours, theirs = figures.median(drey["rest"]), figures.median(plain["rest"])
    figures.verdict(
        "not restic, Drey / bare Job", ours / theirs, "<= 1.25", good=ours / theirs <= MOST_RATIO
    )
    figures.verdict(
        "not restic, Drey - bare Job",
        ours - theirs, "<= 0.3 s", good=ours - theirs <= MOST_MORE_S, unit="s",
    )  # fmt: skip
    reaction_s = figures.median(drey["reaction"])
    figures.verdict(
        "status PATCH → final phase",
        reaction_s,
        "< 0.3 s",
        good=reaction_s < MOST_REACTION_S,
        unit="s",
    )


def _drey(space: Space, name: str) -> dict[str, float]:
    audit = Audit(space.cluster.info["audit_log"])
    space.back_up(name)
    requests = [r for r in audit.requests() if r.namespace == space.name]
    created = _one(requests, "create", "backupsessions", name)
    updates = [
        r
        for r in requests
        if (r.verb, r.resource, r.name, r.user)
        == ("update", "backupsessions/status", name, OPERATOR)
    ]
    final = updates[-1]
    job = f"stash-backup-{name}-0"
    patched_s = _kubelet_patched_s(space, requests, job)
    restic_s = bare.runner_restic_s(space, job)
    total_s = final.ended_s - created.begun_s
    return {
        "total": total_s,
        "restic": restic_s,
        "rest": total_s - restic_s,
        "reaction": final.ended_s - patched_s,
    }


def _bare(space: Space, name: str) -> dict[str, float]:
    audit = Audit(space.cluster.info["audit_log"])
    space.apply(bare.job(space, name))
    bare.wait(space, name)
    requests = [r for r in audit.requests() if r.namespace == space.name]
    created = next(r for r in requests if r.resource == "jobs" and r.name == name)
    completed = [r for r in requests if (r.resource, r.name) == ("jobs/status", name)][-1]
    restic_s = bare.restic_s(space, name)
    total_s = completed.ended_s - created.begun_s
    patched_s = _kubelet_patched_s(space, requests, name)
    return {
        "total": total_s,
        "restic": restic_s,
        "rest": total_s - restic_s,
        "ended": patched_s - created.begun_s - restic_s,
    }


def _kubelet_patched_s(space: Space, requests: list[Request], job: str) -> float:
    """Return when the kubelet told the end of a Job's pod: its first word after the last line."""
    last_line_s = bare.ended_s(space, job)
    return min(
        r.ended_s
        for r in requests
        if (r.verb, r.resource) == ("patch", "pods/status")
        and r.user.startswith("system:node:")
        and r.name.startswith(f"{job}-")
        and r.begun_s > last_line_s
    )


def _one(requests: list[Request], verb: str, resource: str, name: str) -> Request:
    """Return the request that made an object, also when `kubectl apply` made it by a patch."""
    wanted = {(verb, resource, name), ("patch", resource, name)}
    return next(r for r in requests if (r.verb, r.resource, r.name) in wanted)
