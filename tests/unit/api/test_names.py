"""Derived names."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api import names

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# names that users can give: DNS subdomains of up to 253 characters, long ones often alike
_PART = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
OWNERS = st.builds(
    lambda parts, repeat: ".".join(parts * repeat)[:253].rstrip("-."),
    st.lists(_PART, min_size=1, max_size=4),
    st.sampled_from([1, 1, 2, 30]),
)
INDEXES = st.integers(min_value=0, max_value=10**10)

FLOW_B = ("snapshots", "pre", "post", "identity")


def _of_flow_b(purpose: str, is_restore: bool, owner: str, index: int) -> str:  # noqa: FBT001 - bound
    session = f"{owner}-{index}"
    if purpose == "snapshots":
        return names.snapshot_job_name(session, is_restore=is_restore)
    return names.hook_job_name(session, purpose, is_restore=is_restore)


LABELS: dict[str, tuple[Callable[[str, int], str], int]] = {
    "trigger": (lambda owner, _: names.trigger_name(owner), names.CRON_JOB_LIMIT),
    "backup": (names.backup_job_name, names.LABEL_LIMIT),
    "restore": (names.restore_job_name, names.LABEL_LIMIT),
    "unlock": (
        lambda owner, index: names.unlock_job_name(names.backup_job_name(owner, index)),
        names.LABEL_LIMIT,
    ),
    "unlock-restore": (
        lambda owner, index: names.unlock_job_name(names.restore_job_name(owner, index)),
        names.LABEL_LIMIT,
    ),
    "identity": (
        lambda owner, index: names.job_identity_name("BackupConfiguration", owner, index),
        names.LABEL_LIMIT,
    ),
    "container": (names.container_name, names.LABEL_LIMIT),
    **{
        f"{purpose}{'-restore' if is_restore else ''}": (
            partial(_of_flow_b, purpose, is_restore),
            names.LABEL_LIMIT,
        )
        for purpose in FLOW_B
        for is_restore in (False, True)
    },
    "hostname": (
        lambda owner, index: names.pod_hostname(names.backup_job_name(owner), str(index)),
        names.LABEL_LIMIT,
    ),
}


@given(OWNERS, INDEXES)
@pytest.mark.parametrize("purpose", LABELS)
def test_names_are_dns_labels_and_stable(purpose: str, owner: str, index: int) -> None:
    """What names a Job, a pod or a container is a DNS label in its limit, always the same."""
    function, limit = LABELS[purpose]
    name = function(owner, index)
    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= limit
    assert function(owner, index) == name


@given(st.lists(st.tuples(OWNERS, INDEXES), min_size=2, max_size=8, unique=True))
@pytest.mark.parametrize("purpose", sorted(set(LABELS) - {"trigger", "container"}))
def test_names_are_injective(purpose: str, owners: list[tuple[str, int]]) -> None:
    """Different owners and indexes never share a name (D20)."""
    function, _ = LABELS[purpose]
    assert len({function(owner, index) for owner, index in owners}) == len(owners)


@given(st.lists(OWNERS, min_size=2, max_size=8, unique=True))
def test_trigger_names_are_injective(owners: list[str]) -> None:
    """Different configurations never share a CronJob."""
    assert len({names.trigger_name(owner) for owner in owners}) == len(owners)


@given(OWNERS, INDEXES)
def test_purposes_never_meet(owner: str, index: int) -> None:
    """The Jobs of one name have different names for each purpose."""
    purposes = ("backup", "restore", "unlock", "unlock-restore")
    assert len({LABELS[purpose][0](owner, index) for purpose in purposes}) == len(purposes)


@given(OWNERS, st.integers(0, 3), st.integers(0, 3))
@pytest.mark.parametrize("purpose", FLOW_B)
def test_a_backup_session_never_meets_a_restore_session(
    purpose: str, owner: str, of_backup: int, of_restore: int
) -> None:
    """A BackupSession may be named after what the Jobs of a RestoreSession are named (D20)."""
    restores, backups = "restore-" * of_restore, "restore-" * of_backup
    assert _of_flow_b(purpose, False, f"{backups}{owner}", 1) != _of_flow_b(
        purpose, True, f"{restores}{owner}", 1
    )
    assert _of_flow_b(purpose, False, "restore-x", 1) != _of_flow_b(purpose, True, "x", 1)


@given(st.sets(st.tuples(OWNERS, INDEXES), min_size=2, max_size=8))
def test_snapshot_names(claims: set[tuple[str, int]]) -> None:
    """They are legal and injective, and leave room for the suffix of a name that was taken."""
    found = [names.snapshot_name(claim, unix_s) for claim, unix_s in claims]
    for name, (_, unix_s) in zip(found, claims, strict=True):
        assert SUBDOMAIN.fullmatch(name)
        assert len(name) + 1 + names.FALLBACK_LENGTH <= names.NAME_LIMIT
        assert name.endswith(f"-{unix_s}")
    assert len(set(found)) == len(claims)


@given(OWNERS, st.integers(min_value=1, max_value=10**10))
def test_session_names(owner: str, unix_s: int) -> None:
    """A session's name is a legal object name and label value and ends in its slot."""
    name = names.session_name(owner, unix_s)
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= names.LABEL_LIMIT
    assert name.endswith(f"-{unix_s}")


@given(st.sets(st.tuples(OWNERS, INDEXES), min_size=2, max_size=8))
def test_session_names_are_injective(slots: set[tuple[str, int]]) -> None:
    """Two slots of one configuration, or one slot of two, are two sessions."""
    assert len({names.session_name(owner, unix_s) for owner, unix_s in slots}) == len(slots)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (names.trigger_name("nightly"), "stash-trigger-nightly"),
        (names.session_name("nfs-pvc-backup", 1649842200), "nfs-pvc-backup-1649842200"),
        (
            names.backup_job_name("nfs-pvc-backup-1649842200"),
            "stash-backup-nfs-pvc-backup-1649842200-0",
        ),
        (names.restore_job_name("rs"), "stash-restore-rs-0"),
        (names.unlock_job_name("stash-backup-x-0"), "stash-unlock-backup-x-0"),
        (
            names.job_identity_name("BackupConfiguration", "nightly"),
            "backupconfiguration-nightly-0",
        ),
        (names.container_name("pvc-backup", 0), "pvc-backup-0"),
        (names.container_name("pg.backup-14", 1), "pg-backup-14-1"),
        (names.retry_session_name("nightly-1", 2), "nightly-1-retry-2"),
        (names.snapshot_job_name("nightly-1"), "stash-vs-nightly-1"),
        (names.snapshot_job_name("x", is_restore=True), "stash-vs-restore-x"),
        (names.hook_job_name("nightly-1", "pre"), "stash-hook-pre-nightly-1"),
        (names.snapshot_name("data-db-0", 1700000000), "data-db-0-1700000000"),
    ],
)
def test_stashs_names(name: str, wanted: str) -> None:
    """Up to the limits the names are Stash's own."""
    assert name == wanted


def test_a_dotted_name_does_not_meet_its_dashed_twin() -> None:
    """`a.b` and `a-b` are two owners, though a Job's name can hold no dot."""
    assert names.backup_job_name("a.b") != names.backup_job_name("a-b")


def test_hostname_depends_on_the_session_not_only_on_its_name() -> None:
    """Namesakes in two clusters that share a repository have different host names (D8)."""
    assert names.pod_hostname("job", "uid-1") != names.pod_hostname("job", "uid-2")
    assert names.pod_hostname("job-1", "uid") != names.pod_hostname("job-2", "uid")
