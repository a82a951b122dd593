"""OCI archives that we write ourselves: every blob is named after its content."""

import hashlib
import json
import tarfile
from pathlib import Path

from hack.cluster import images


def test_an_archive_is_a_chain_of_digests_from_index_to_layer(tmp_path: Path) -> None:
    """Index → manifest → config and layer; the name is where buildah and containerd look."""
    layer = images._layer(tmp_path / "layer.tar", {"bin/busybox": b"program"}, ["sh"])
    archive = tmp_path / "image.oci.tar"
    images._write_archive(archive, "example.com/name:tag", layer, {"Cmd": ["sh"]})
    with tarfile.open(archive) as tar:
        blobs = {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"

    def follow(descriptor: dict[str, str]) -> bytes:
        content = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert len(content) == int(descriptor["size"])
        return content

    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert set(entry["annotations"].values()) == {"example.com/name:tag"}
    manifest = json.loads(follow(entry))
    config = json.loads(follow(manifest["config"]))
    assert follow(manifest["layers"][0]) == layer.read_bytes()
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    with tarfile.open(layer) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777
