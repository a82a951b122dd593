"""Repository: who refers to it."""

from controller.plan import Finalizer, Plan, SetStatus
from controller.reconcile.observed import RepositoryObserved
from controller.reconcile.repository import plan
from tests.support.builders import NOW, configuration, repository, restore


def test_its_users_are_listed_in_order() -> None:
    """Kind, namespace and name of each invoker, sorted, so that the list is stable."""
    users = (restore(), configuration("weekly"), configuration("nightly"))
    (write,) = plan(RepositoryObserved(repository(), users), NOW).writes
    assert isinstance(write, SetStatus)
    assert write.status == {
        "observedGeneration": 1,
        "references": [
            {"kind": "BackupConfiguration", "namespace": "demo", "name": "nightly"},
            {"kind": "BackupConfiguration", "namespace": "demo", "name": "weekly"},
            {"kind": "RestoreSession", "namespace": "demo", "name": "bring-back"},
        ],
    }
    after = repository(status=write.status)
    assert plan(RepositoryObserved(after, users[::-1]), NOW).writes == ()


def test_the_last_user_leaves_an_empty_list() -> None:
    """A user that is gone is no reference; what backups learned stays."""
    old = repository(status={"references": [{"name": "x"}], "totalSize": "1 B"})
    (write,) = plan(RepositoryObserved(old), NOW).writes
    assert isinstance(write, SetStatus)
    assert write.status == {"references": [], "totalSize": "1 B", "observedGeneration": 1}


def test_a_wrong_repository_is_told_by_an_event() -> None:
    """A Repository has no conditions: its problems are Events, once for each generation."""
    wrong = repository(spec={"backend": {"s3": {"endpoint": "e", "bucket": "b"}, "local": {}}})
    planned = plan(RepositoryObserved(wrong), NOW)
    assert [(n.type, n.reason) for n in planned.notes] == [("Warning", "ResourceValidationFailed")]
    assert "set exactly one backend, not local, s3" in planned.notes[0].message
    seen = {**wrong, "status": {"observedGeneration": 1}}
    assert plan(RepositoryObserved(seen), NOW) == Plan()


def test_wipe_out_is_refused_loudly() -> None:
    """Whoever counts on it would believe that the data is gone; once for each generation."""
    wanted = repository()
    wanted["spec"]["wipeOut"] = True
    for generation in (1, 2):
        wanted["metadata"]["generation"] = generation
        planned = plan(RepositoryObserved(wanted), NOW)
        assert [(n.type, n.reason, n.message) for n in planned.notes] == [
            (
                "Warning",
                "WipeOutNotSupported",
                "spec.wipeOut: not supported yet: the data stays in the backend",
            )
        ]
        wanted["status"] = {"observedGeneration": generation}
        again = plan(RepositoryObserved(wanted, (configuration(),)), NOW)
        assert (len(again.writes), again.notes) == (1, ())


def test_deletion_takes_only_the_finalizer_of_stash() -> None:
    """References do not block deletion; Stash's finalizer would."""
    held = repository(metadata={"deletionTimestamp": "x", "finalizers": ["stash"]})
    (write,) = plan(RepositoryObserved(held), NOW).writes
    assert isinstance(write, Finalizer)
    assert (write.name, write.present) == ("stash", False)
    bare = repository(metadata={"deletionTimestamp": "x"})
    assert plan(RepositoryObserved(bare), NOW) == Plan()
