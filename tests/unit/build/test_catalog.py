"""The Functions and Tasks that come with the operator."""

from controller.build.catalog import catalogue
from tests.support.orders import INSTALLATION


def test_catalogue() -> None:
    """The names are Stash's, each Task has one step, every Function runs our image."""
    objects = {(item["kind"], item["metadata"]["name"]): item for item in catalogue(INSTALLATION)}
    image = INSTALLATION.image
    output = "--output-dir=${outputDir:=}"
    volume = {"name": "${targetVolume}"}
    assert {key: item["spec"] for key, item in objects.items() if key[0] == "Function"} == {
        ("Function", "pvc-backup"): {
            "image": image,
            "args": ["backup", output],
            "volumeMounts": [{**volume, "mountPath": "${TARGET_MOUNT_PATH}", "readOnly": True}],
        },
        ("Function", "pvc-restore"): {
            "image": image,
            "args": ["restore", output],
            "volumeMounts": [{**volume, "mountPath": "/drey/restore${TARGET_MOUNT_PATH}"}],
        },
        ("Function", "update-status"): {"image": image, "args": ["update-status", output]},
    }
    for name in ("pvc-backup", "pvc-restore"):
        assert objects["Task", name]["spec"] == {
            "steps": [
                {"name": name, "params": [{"name": "targetVolume", "value": "stash-volume"}]}
            ],
            "volumes": [
                {
                    "name": "stash-volume",
                    "persistentVolumeClaim": {"claimName": "${TARGET_NAME}"},
                }
            ],
        }


def test_all_are_marked_as_ours() -> None:
    """What the operator applies carries its label and the hash of what it says."""
    for item in catalogue(INSTALLATION):
        assert item["metadata"]["labels"] == {"drey.dev/created-by": "drey"}
        assert item["metadata"]["annotations"]["drey.dev/spec-hash"]
