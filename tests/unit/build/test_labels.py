"""Labels of what we create."""

from controller.api.backup import BackupTarget
from controller.build.labels import SELECTOR, child_labels, own_labels, session_labels
from tests.support.orders import obj


def test_only_harmless_labels_are_copied() -> None:
    """A label that a Service or a deployment tool selects by never gets onto what we create."""
    labels = {
        "app": "wordpress",
        "app.kubernetes.io/instance": "wordpress",
        "app.kubernetes.io/name": "wordpress",
        "kustomize.toolkit.fluxcd.io/name": "apps",
        "team": "web",
    }
    invoker = obj("BackupConfiguration", "nightly", labels=labels)
    copied = child_labels("stash-backup", "BackupConfiguration", invoker)
    own = own_labels("stash-backup", "BackupConfiguration", invoker)
    assert copied == {**own, "team": "web"}
    assert own == {
        "app.kubernetes.io/component": "stash-backup",
        "app.kubernetes.io/managed-by": "stash.appscode.com",
        "drey.dev/created-by": "drey",
        "stash.appscode.com/invoker-type": "BackupConfiguration",
        "stash.appscode.com/invoker-name": "nightly",
    }
    assert SELECTOR == "drey.dev/created-by=drey"


def test_session_labels_are_those_that_guides_select_by() -> None:
    """A session is found by invoker, target and the label of Stash's guides."""
    target = BackupTarget.model_validate(
        {"ref": {"kind": "PersistentVolumeClaim", "name": "d" * 70}}
    )
    name = "c" * 100
    labels = session_labels(obj("BackupConfiguration", name), target)
    assert (
        labels["stash.appscode.com/backup-configuration"]
        == labels["stash.appscode.com/invoker-name"]
    )
    assert labels["stash.appscode.com/target-kind"] == "PersistentVolumeClaim"
    assert labels["stash.appscode.com/target-namespace"] == "demo"
    assert max(len(value) for value in labels.values()) == 63
    assert "stash.appscode.com/target-kind" not in session_labels(
        obj("BackupConfiguration", "c"), None
    )
