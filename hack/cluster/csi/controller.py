"""CSI's Controller service: what it claims. The calls are in `volumes` and `snapshots`."""

from typing import Any

from hack.cluster.csi.protos import Messages

CAPABILITIES = (
    "CREATE_DELETE_VOLUME",
    "LIST_VOLUMES",
    "GET_CAPACITY",
    "CREATE_DELETE_SNAPSHOT",
    "LIST_SNAPSHOTS",
    "CLONE_VOLUME",
    "EXPAND_VOLUME",
    "SINGLE_NODE_MULTI_WRITER",
)


class Controller:
    """Serves the part of `csi.v1.Controller` that is neither about a volume nor a snapshot."""

    def __init__(self, csi: Messages) -> None:
        self._csi = csi

    def ControllerGetCapabilities(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return what the driver claims, all of which csi-sanity then tests."""
        kind = self._csi.ControllerServiceCapability
        return self._csi.ControllerGetCapabilitiesResponse(
            capabilities=[kind(rpc=kind.RPC(type=name)) for name in CAPABILITIES]
        )
