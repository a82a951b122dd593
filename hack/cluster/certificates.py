"""Certificates and kubeconfigs, made with the openssl command (the standard library cannot).

P-256 keys: they cost milliseconds where RSA costs tenths of seconds.
"""

import base64
import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hack.cluster import layout
from hack.cluster.errors import ClusterError
from hack.cluster.layout import Layout

DAYS = "3650"
SERVER_NAMES = (
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,"
    f"DNS:kubernetes.default.svc.cluster.local,IP:{layout.SERVICE_ADDRESS},"
    f"IP:127.0.0.1,IP:{layout.NODE_ADDRESS}"
)
# file name → subject; the organisation is the group for RBAC
CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kubelet-client": "/O=system:masters/CN=apiserver-kubelet-client",
    "controller-manager": "/CN=system:kube-controller-manager",
    "scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/O=system:nodes/CN=system:node:{layout.NODE}",
    "proxy": "/CN=system:kube-proxy",
    # an identity of its own, so that the storage parts can be told apart in the audit log
    "storage": "/O=system:masters/CN=drey-test-storage",
    "dns": "/O=system:masters/CN=drey-test-dns",
}
KUBECONFIGS = ("controller-manager", "scheduler", "kubelet", "proxy", "storage", "dns")


def create(paths: Layout) -> None:
    """Create all keys, certificates and kubeconfigs below the state folder."""
    pki = paths.pki
    with ThreadPoolExecutor(4) as pool:
        authorities = [
            pool.submit(_authority, pki, "ca", "drey-test-cluster"),
            pool.submit(_authority, pki, "backend-ca", "drey-test-backends"),
            pool.submit(_service_account_keys, pki),
        ]
        for job in authorities:
            job.result()
        jobs = [
            pool.submit(_certificate, pki, "ca", "apiserver", "/CN=kube-apiserver", SERVER_NAMES),
            pool.submit(
                _certificate,
                pki,
                "backend-ca",
                "backend",
                "/CN=drey-backend",
                backend_names(layout.NODE_ADDRESS),
            ),
            *(pool.submit(_certificate, pki, "ca", n, s, "") for n, s in CLIENTS.items()),
        ]
        for certificate in jobs:
            certificate.result()
    for name in KUBECONFIGS:
        _write_secret(pki / f"{name}.kubeconfig", kubeconfig(pki, name))
    _write_secret(paths.kubeconfig, kubeconfig(pki, "admin"))


def create_backend(pki: Path, address: str) -> None:
    """Create what the backends' TLS ports need, and nothing of a cluster (kind has its own)."""
    _authority(pki, "backend-ca", "drey-test-backends")
    names = backend_names(address)
    _certificate(pki, "backend-ca", "backend", "/CN=drey-backend", names)


def backend_names(address: str) -> str:
    """Return the names of the backends' certificate; pods reach them at the address."""
    return f"DNS:{layout.S3_HOST},DNS:{layout.REST_HOST},DNS:localhost,IP:{address},IP:127.0.0.1"


def kubeconfig(pki: Path, client: str) -> str:
    """Return a kubeconfig (JSON, which is YAML) with the certificates in it."""

    def data(file: str) -> str:
        return base64.b64encode((pki / file).read_bytes()).decode()

    cluster = {
        "server": f"https://127.0.0.1:{layout.API_PORT}",
        "certificate-authority-data": data("ca.crt"),
    }
    user = {
        "client-certificate-data": data(f"{client}.crt"),
        "client-key-data": data(f"{client}.key"),
    }
    context = {"cluster": "drey-test", "user": client}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "drey-test", "cluster": cluster}],
        "users": [{"name": client, "user": user}],
        "contexts": [{"name": "drey-test", "context": context}],
        "current-context": "drey-test",
    }
    return json.dumps(document, indent=1)


def _authority(pki: Path, name: str, common_name: str) -> None:
    _openssl(
        "req", "-x509", *_new_key(pki, name), "-out", str(pki / f"{name}.crt"),
        "-days", DAYS, "-subj", f"/CN={common_name}",
    )  # fmt: skip


def _certificate(pki: Path, authority: str, name: str, subject: str, names: str) -> None:
    extensions = pki / f"{name}.ext"
    extensions.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
    request = pki / f"{name}.csr"
    _openssl("req", *_new_key(pki, name), "-out", str(request), "-subj", subject)
    serial = str(1000 + sorted([*CLIENTS, "apiserver", "backend"]).index(name))
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(pki / f"{authority}.crt"),
        "-CAkey", str(pki / f"{authority}.key"), "-set_serial", serial, "-days", DAYS,
        "-out", str(pki / f"{name}.crt"), "-extfile", str(extensions),
    )  # fmt: skip
    request.unlink()
    extensions.unlink()


def _service_account_keys(pki: Path) -> None:
    _openssl("genrsa", "-out", str(pki / "sa.key"), "2048")
    _openssl("rsa", "-in", str(pki / "sa.key"), "-pubout", "-out", str(pki / "sa.pub"))


def _new_key(pki: Path, name: str) -> Sequence[str]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    return (*curve, "-nodes", "-keyout", str(pki / f"{name}.key"))


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-400:]}")
