"""CSI's Identity service: who the driver is and which services it has."""

from typing import Any

from hack.cluster.csi.protos import Messages

VERSION = "1"


class Identity:
    """Serves `csi.v1.Identity`."""

    def __init__(self, csi: Messages, name: str) -> None:
        self._csi = csi
        self._name = name

    def GetPluginInfo(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return the driver's name, which the StorageClass' provisioner must equal."""
        return self._csi.GetPluginInfoResponse(name=self._name, vendor_version=VERSION)

    def GetPluginCapabilities(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return that there is a controller, and that volumes grow while they are in use."""
        kinds = self._csi.PluginCapability
        service = kinds.Service(type=kinds.Service.CONTROLLER_SERVICE)
        expansion = kinds.VolumeExpansion(type=kinds.VolumeExpansion.ONLINE)
        return self._csi.GetPluginCapabilitiesResponse(
            capabilities=[kinds(service=service), kinds(volume_expansion=expansion)]
        )

    def Probe(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return ready: the driver serves only after the pool was prepared."""
        response = self._csi.ProbeResponse()
        response.ready.value = True
        return response
