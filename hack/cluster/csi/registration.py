"""Kubelet's plugin registration: kubelet finds the socket and asks what is behind it."""

from pathlib import Path
from typing import Any

from hack.cluster.csi.protos import Messages


class Registration:
    """Serves `pluginregistration.Registration` for a driver that listens at `socket`."""

    def __init__(self, messages: Messages, name: str, socket: Path) -> None:
        self._messages = messages
        self._name = name
        self._socket = socket

    def GetInfo(self, _request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Return the driver's name, socket and CSI version."""
        return self._messages.PluginInfo(
            type="CSIPlugin",
            name=self._name,
            endpoint=str(self._socket),
            supported_versions=["1.0.0"],
        )

    def NotifyRegistrationStatus(self, request: Any) -> Any:  # noqa: N802  # the protocol's name
        """Print what kubelet says: it asks again by itself after a failure."""
        if request.plugin_registered:
            print(f"registered with kubelet as {self._name}", flush=True)
        else:
            print(f"kubelet refused {self._name}: {request.error}", flush=True)
        return self._messages.RegistrationStatusResponse()
