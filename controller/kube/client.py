"""The one doorway to the API server: raw objects in, raw objects out, errors from `kube.errors`.

`DynamicClient.request(..., serialize=False)` is the lowest documented call of the client library:
it gives the response as it is, with any content type, and leaves models and discovery out. It is
safe to use from many threads. No request is repeated behind the caller's back, with one
exception: after a 401 the token is read again and the request sent once more.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

from controller.api.objects import Obj
from controller.api.resources import Resource
from controller.kube.errors import (
    KubeError,
    NotFound,
    NotServed,
    ServerFault,
    Unauthorized,
    Unreachable,
    error_for,
)
from controller.kube.interface import (
    CONNECT_S,
    FIELD_MANAGER,
    INACTIVITY_S,
    LIST_S,
    READ_S,
    WRITE_S,
    KubeClient,
)
from controller.kube.stream import JsonLines

__all__ = ["Client", "KubeClient", "RequestHook", "find"]

_METADATA_ONLY = "application/json;as={kind};g=meta.k8s.io;v=v1"

RequestHook = Callable[[str, str, int, float], None]
"""Called after each request with verb, kind, HTTP status (0 without an answer) and seconds."""


class Token(Protocol):
    """A source of bearer tokens (`kube.config`)."""

    def refresh(self) -> None:
        """Read the token again now."""


class Client:
    """`KubeClient` on the client library. Built by `kube.config.connect`."""

    def __init__(self, api: Any, *, token: Token | None = None, on_request: RequestHook) -> None:
        self._api = api
        # discovery would cost a request and write a cache file; our resources are a static table
        dynamic: Any = DynamicClient
        self._dynamic = dynamic(api, discoverer=lambda *_: None)
        self._token = token
        self._on_request = on_request
        self._lock = Lock()
        self._unauthorized_since: float | None = None

    @property
    def configuration(self) -> Any:
        """Return the library's configuration: where the server is, trust, and fresh credentials."""
        return self._api.configuration

    def unauthorized_for_s(self) -> float:
        """Return for how long every answer has been 401; 0 when the last one was not.

        Five minutes of it are a reason to restart: a new pod gets new credentials.
        """
        since = self._unauthorized_since
        return 0.0 if since is None else monotonic() - since

    def close(self) -> None:
        """Close idle connections."""
        self._api.close()

    def get(
        self, resource: Resource, namespace: str, name: str, *, timeout_s: float = READ_S
    ) -> Obj:
        """See `KubeClient.get`."""
        return self._object("get", resource, resource.path(namespace, name), timeout_s=timeout_s)

    def list_page(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 500,
        continue_token: str = "",
        resource_version: str = "",
        metadata_only: bool = False,
        timeout_s: float = LIST_S,
    ) -> Obj:
        """See `KubeClient.list_page`."""
        page = self._object(
            "list",
            resource,
            resource.path(namespace),
            query={
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "limit": str(limit) if limit else "",
                "continue": continue_token,
                "resourceVersion": resource_version,
                "resourceVersionMatch": "NotOlderThan" if resource_version else "",
            },
            accept=_METADATA_ONLY.format(kind="PartialObjectMetadataList") if metadata_only else "",
            timeout_s=timeout_s,
        )
        _check_list(resource, page)
        return page

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str,
        timeout_s: int,
        metadata_only: bool = False,
        inactivity_s: float = INACTIVITY_S,
    ) -> JsonLines:
        """See `KubeClient.watch`."""
        response = self._send(
            "watch",
            resource,
            resource.path(namespace),
            query={
                "watch": "true",
                "allowWatchBookmarks": "true",
                "labelSelector": label_selector,
                "fieldSelector": field_selector,
                "resourceVersion": resource_version,
                "timeoutSeconds": str(timeout_s),
            },
            accept=_METADATA_ONLY.format(kind="PartialObjectMetadata") if metadata_only else "",
            timeout_s=min(inactivity_s, timeout_s + 30.0) + CONNECT_S,
            connect_s=CONNECT_S,
        )
        return JsonLines(response, limit_s=timeout_s + 30.0)

    def create(
        self, resource: Resource, namespace: str, body: Obj, *, timeout_s: float = WRITE_S
    ) -> Obj:
        """See `KubeClient.create`."""
        path = resource.path(namespace)
        query = {"fieldManager": FIELD_MANAGER}
        return self._object("create", resource, path, query=query, body=body, timeout_s=timeout_s)

    def apply(
        self,
        resource: Resource,
        body: Obj,
        *,
        field_manager: str = FIELD_MANAGER,
        force: bool = True,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """See `KubeClient.apply`."""
        identity = {"apiVersion": resource.api_version, "kind": resource.kind}
        return self._object(
            "apply",
            resource,
            _path(resource, body),
            query={"fieldManager": field_manager, "force": "true" if force else "false"},
            body=identity | dict(body),
            content_type="application/apply-patch+yaml",
            timeout_s=timeout_s,
        )

    def put(self, resource: Resource, body: Obj, *, timeout_s: float = WRITE_S) -> Obj:
        """See `KubeClient.put`."""
        path = _path(resource, body)
        query = {"fieldManager": FIELD_MANAGER}
        return self._object("update", resource, path, query=query, body=body, timeout_s=timeout_s)

    def put_status(self, resource: Resource, body: Obj, *, timeout_s: float = WRITE_S) -> Obj:
        """See `KubeClient.put_status`."""
        identity = {"apiVersion": resource.api_version, "kind": resource.kind}
        return self._object(
            "update_status",
            resource,
            _path(resource, body, "status"),
            query={"fieldManager": FIELD_MANAGER},
            body=identity | dict(body),
            timeout_s=timeout_s,
        )

    def json_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        ops: Sequence[Obj],
        *,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """See `KubeClient.json_patch`."""
        return self._object(
            "patch",
            resource,
            resource.path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=list(ops),
            content_type="application/json-patch+json",
            timeout_s=timeout_s,
        )

    def merge_patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Obj,
        *,
        timeout_s: float = WRITE_S,
    ) -> Obj:
        """See `KubeClient.merge_patch`."""
        return self._object(
            "patch",
            resource,
            resource.path(namespace, name),
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type="application/merge-patch+json",
            timeout_s=timeout_s,
        )

    def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        propagation: str = "Background",
        timeout_s: float = WRITE_S,
    ) -> None:
        """See `KubeClient.delete`."""
        body: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            body["preconditions"] = {"uid": uid}
        path = resource.path(namespace, name)
        self._object("delete", resource, path, body=body, timeout_s=timeout_s)

    def _object(self, verb: str, resource: Resource, path: str, **request: Any) -> Obj:
        response = self._send(verb, resource, path, **request)
        try:
            parsed = json.loads(response.data)
        except ValueError as err:
            raise ServerFault(f"the answer to {verb} {resource} is not JSON") from err
        except (HTTPError, HTTPException, OSError) as err:
            raise Unreachable(f"{verb} {resource}: {type(err).__name__}") from err
        finally:
            response.release_conn()
        if not isinstance(parsed, dict):
            raise ServerFault(f"the answer to {verb} {resource} is no object")
        return parsed

    def _send(self, verb: str, resource: Resource, path: str, **request: Any) -> Any:
        """Send one request; after a 401 a second time, with the token read again."""
        try:
            try:
                response = self._send_once(verb, resource, path, **request)
            except Unauthorized:
                if self._token is None:
                    raise
                self._token.refresh()
                response = self._send_once(verb, resource, path, **request)
        except Unauthorized:
            self._count_unauthorized()
            raise
        self._unauthorized_since = None
        return response

    def _count_unauthorized(self) -> None:
        with self._lock:
            if self._unauthorized_since is None:
                self._unauthorized_since = monotonic()

    def _send_once(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "",
        timeout_s: float,
        connect_s: float = 0.0,
    ) -> Any:
        connect_s = connect_s or min(CONNECT_S, timeout_s * 0.2)
        started, code = monotonic(), 0
        try:
            response = self._dynamic.request(
                _METHODS[verb],
                path,
                body=body,
                query_params=[(k, v) for k, v in (query or {}).items() if v],
                header_params={"Accept": accept or "application/json"},
                content_type=content_type,
                serialize=False,
                _request_timeout=(connect_s, timeout_s - connect_s),
            )
            code = response.status
        except ApiException as err:
            raised = _from_api_exception(err)
            code = raised.code
            # no cause: it would print headers and bodies into any traceback
            raise raised from None
        except (HTTPError, HTTPException, OSError) as err:
            raise Unreachable(f"{verb} {resource}: {type(err).__name__}") from err
        else:
            return response
        finally:
            self._on_request(verb, resource.kind, code, monotonic() - started)


_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "apply": "PATCH",
    "patch": "PATCH",
    "update": "PUT",
    "update_status": "PUT",
    "delete": "DELETE",
}


def _from_api_exception(err: Any) -> KubeError:
    if not err.status:  # the library wraps TLS errors so
        return Unreachable("TLS: the connection could not be trusted or made", reason="TLS")
    return error_for(err.status, err.headers or {}, err.body)


def _path(resource: Resource, body: Obj, subresource: str = "") -> str:
    metadata = body["metadata"]
    return resource.path(metadata.get("namespace") or "", metadata["name"], subresource)


def _check_list(resource: Resource, page: Obj) -> None:
    """Refuse what is no list: taken for an empty one, it would empty a cache."""
    items = page.get("items")
    version = (page.get("metadata") or {}).get("resourceVersion")
    if not (str(page.get("kind")).endswith("List") and version and isinstance(items, list | None)):
        raise ServerFault(f"the answer to list {resource} is a {page.get('kind')!r}, no list")
    for item in items or ():
        if not (isinstance(item, dict) and (item.get("metadata") or {}).get("name")):
            raise ServerFault(f"the list of {resource} holds something that is no object")


def find(client: KubeClient, resource: Resource, namespace: str, name: str) -> Obj | None:
    """Return one object, or None when it or its namespace does not exist.

    Raises:
        NotServed: the resource does not exist, which says nothing about its objects.
    """
    try:
        return client.get(resource, namespace, name)
    except NotServed:
        raise
    except NotFound:
        return None
