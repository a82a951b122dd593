# One image for both programs, built the same way by Docker and by Buildah:
#
#   python3 hack/image build      (or: make image)
#
# prepares what the build copies from build/image (hash-checked wheels, a static restic) and then
# runs the builder, so that nothing below needs a package index. Layers go from what changes least to
# what changes most: a change of Python sources alone leaves the large ones as they are.

ARG BASE=docker.io/library/debian:bookworm-slim

# --- system: Debian with Python and CA certificates, nothing setuid.
FROM ${BASE} AS system
# A base may bring both already (the one of the native cluster does: its build has no package index).
RUN set -eu; \
    if ! command -v python3 >/dev/null || [ ! -s /etc/ssl/certs/ca-certificates.crt ]; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends ca-certificates python3; \
    fi; \
    python3 -c 'import sys; v = sys.version_info[:2]; sys.exit(v != (3, 11) and f"Python 3.11 is needed, the base has {v}")'; \
    find / -xdev -type f -perm /6000 -exec chmod a-s {} +; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/*

# --- dependencies: the locked wheels, unpacked and byte-compiled; pip itself runs from its own wheel and stays here.
FROM system AS dependencies
COPY build/image/wheels/ /wheels/
COPY hack/requirements.txt /wheels/
RUN set -eu; \
    pip=$(echo /wheels/pip-*.whl)/pip; \
    python3 "$pip" install --quiet --no-index --find-links /wheels --no-deps --require-hashes \
      --no-compile --disable-pip-version-check --root-user-action ignore --target /dependencies --requirement /wheels/requirements.txt; \
    # the asyncio twin of the client, 68 MB: nothing imports it
    rm -rf /dependencies/bin /dependencies/kubernetes/aio; \
    # unchecked: builders rewrite file times, and a .pyc that is checked against them would never be used
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
      -s /dependencies -p /usr/local/lib/python3.11/dist-packages /dependencies

FROM system
COPY --from=dependencies /dependencies/ /usr/local/lib/python3.11/dist-packages/
COPY --chmod=0755 build/image/restic /bin/restic
LABEL org.opencontainers.image.title="Drey" \
      org.opencontainers.image.description="Backs up Kubernetes volumes with restic and CSI VolumeSnapshots" \
      org.opencontainers.image.licenses="Apache-2.0"
# -I: neither the working folder nor PYTHON* variables may decide what gets imported
ENTRYPOINT ["python3", "-I", "-m", "runner"]

# Every instruction from here on is run again when a source changes: keep them few. The labels that
# change (version, revision, inputs) are flags of the build for that reason.
COPY controller/ /usr/local/lib/python3.11/dist-packages/controller/
COPY runner/ /usr/local/lib/python3.11/dist-packages/runner/
RUN set -eu; cd /usr/local/lib/python3.11/dist-packages; \
    chmod -R u=rwX,go=rX controller runner; \
    python3 -m compileall -q --invalidation-mode unchecked-hash controller runner
USER 65534:65534
