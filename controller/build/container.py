"""From a step to a container: environment, resources, security, mounts (stash.md 3.6, D19, D26)."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from controller.api.job_input import RESTORE_ROOT, SCRATCH_DIR, SECRET_DIR
from controller.api.model import Problem
from controller.api.objects import Obj, dig, name_of, namespace_of
from controller.build.backend import local_volume
from controller.build.input import environment_variable, job_input
from controller.build.installation import Installation
from controller.build.order import JobOrder
from controller.build.task import ResolvedStep

SCRATCH_VOLUME = "stash-tmp-dir"
SECRET_VOLUME = "drey-secret"  # noqa: S105 - a volume's name
RESTORE_VOLUME = "drey-restore"

# FSETID is beside what D19 names because without it the kernel drops the setgid bit of a restored
# file or folder in silence (measured with restic 0.19.1: drwxrwsr-x 1000:1000 came back as
# drwxrwxr-x). SETFCAP and MKNOD fail loudly: who has file capabilities or device nodes in a volume
# adds them in runtimeSettings.
_RESTORE_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
# Who asks for root in a backup wants to read everything. The source is mounted read-only, and this
# one is allowed where DAC_READ_SEARCH is not ("baseline" pod security).
_BACKUP_CAPABILITIES = ("DAC_OVERRIDE",)

# A variable of these would change what our programs are told or which code they load, beside the
# storage Secret. Python's own need no entry: our entrypoint is `python3 -I`.
_TOLD = "tells the operator's own programs what to do"
_LOADS = "decides which code is loaded beside the storage Secret"
_REFUSED_PREFIXES = {"DREY_": _TOLD, "LD_": _LOADS}
_REFUSED = {
    "PATH": "decides which programs are run beside the storage Secret",
    "GLIBC_TUNABLES": _LOADS,
    "GCONV_PATH": _LOADS,
    "OPENSSL_CONF": _LOADS,
    "OPENSSL_ENGINES": _LOADS,
    "OPENSSL_MODULES": _LOADS,
    "SSLKEYLOGFILE": "would have the keys of encrypted connections written to a file",
}
# Keys of an envFrom are unknown here, and `env` beats `envFrom`. An empty value is as good as none.
_PINNED = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LD_PRELOAD": "",
    "LD_LIBRARY_PATH": "",
    "LD_AUDIT": "",
    **{name: "" for name in _REFUSED if name != "PATH"},
    "DREY_SECRET_DIR": SECRET_DIR,
    "DREY_SCRATCH_DIR": SCRATCH_DIR,
    "DREY_RESTORE_ROOT": RESTORE_ROOT,
    "DREY_TERMINATION_LOG": "/dev/termination-log",
    "DREY_RESTIC": "/bin/restic",
}
_NONE: Mapping[str, str] = MappingProxyType({})
_HANDLERS = (
    ("livenessProbe", "exec"),
    ("readinessProbe", "exec"),
    ("lifecycle", "postStart", "exec"),
    ("lifecycle", "preStop", "exec"),
)
_NICE_ENVIRONMENT = (
    ("NICE_ADJUSTMENT", ("nice", "adjustment")),
    ("IONICE_CLASS", ("ionice", "class")),
    ("IONICE_CLASS_DATA", ("ionice", "classData")),
)
_MAIN_ONLY = ("livenessProbe", "readinessProbe", "lifecycle")


def step_container(
    order: JobOrder, step: ResolvedStep, *, steps: Sequence[ResolvedStep], pod_uid: int | None
) -> dict[str, Any]:
    """Return the container of a step; `pod_uid` is the user that the pod's security context sets.

    Probes and lifecycle hooks go on the main container only: init containers may not have them.
    """
    settings = merged_settings(step.settings, order.spec.runtime_settings.container)
    container: dict[str, Any] = {
        "name": step.container,
        "image": step.image,
        "imagePullPolicy": order.installation.image_pull_policy,
    }
    optional: Mapping[str, Any] = {
        "command": list(step.command),
        "args": list(step.args),
        "workingDir": step.working_dir,
        "ports": list(step.ports),
        "volumeDevices": list(step.volume_devices),
    }
    container |= {key: value for key, value in optional.items() if value}
    # ours first: the target's volume lies below the restore root, and a parent is mounted first
    mounts: list[dict[str, Any]] = [{"name": SCRATCH_VOLUME, "mountPath": SCRATCH_DIR}]
    wanted = [dict(mount) for mount in step.volume_mounts]
    environment = list(settings.get("env") or ())
    if step.own:
        if order.is_backup:
            for mount in wanted:
                mount.setdefault("readOnly", True)
        mounts += own_mounts(order)
        later = steps[steps.index(step) + 1 :]
        document = job_input(
            order,
            containers=len(steps),
            settings=settings,
            owns_retention=not any(other.own for other in later),
        )
        environment += [*pinned_environment(settings), environment_variable(document)]
    else:
        environment += [
            {"name": name, "value": str(value)}
            for name, path in _NICE_ENVIRONMENT
            if (value := dig(settings, *path)) is not None
        ]
    container["volumeMounts"] = mounts + wanted
    if environment:
        container["env"] = environment
    container |= shared_fields(order.installation, settings)
    container["securityContext"] = security_context(
        settings.get("securityContext") or {},
        own=step.own,
        is_backup=order.is_backup,
        pod_uid=pod_uid,
    )
    if step is steps[-1]:
        container |= main_fields(settings)
    return container


def main_fields(settings: Obj) -> dict[str, Any]:
    """Return the probes and lifecycle handlers, which go on a pod's main container only."""
    return {key: settings[key] for key in _MAIN_ONLY if settings.get(key)}


def own_mounts(order: JobOrder) -> list[dict[str, Any]]:
    """Return what is mounted into every container of our image, and into no other."""
    mounts: list[dict[str, Any]] = [
        {"name": SECRET_VOLUME, "mountPath": SECRET_DIR, "readOnly": True}
    ]
    if not order.is_backup:
        mounts.append({"name": RESTORE_VOLUME, "mountPath": RESTORE_ROOT})
    if local := local_volume(order.repository_spec):
        mounts.append(local[1])
    return mounts


def shared_fields(installation: Installation, settings: Obj) -> dict[str, Any]:
    """Return what every container of every pod of ours gets from its runtime settings."""
    fields: dict[str, Any] = {
        "resources": resources(installation, settings.get("resources") or {}),
        "terminationMessagePolicy": "File",
    }
    if settings.get("envFrom"):
        fields["envFrom"] = list(settings["envFrom"])
    return fields


def pinned_environment(settings: Obj, also: Mapping[str, str] = _NONE) -> list[dict[str, str]]:
    """Return the variables of a container of ours that no `envFrom` may set, if it has any."""
    if not settings.get("envFrom"):
        return []
    return [{"name": name, "value": value} for name, value in (_PINNED | dict(also)).items()]


def merged_settings(function: Obj, user: Obj) -> dict[str, Any]:
    """Return a Function's runtime settings with the user's over them.

    Environments are added to one another, resources are merged by name; the rest is replaced.
    """
    merged = {**function, **user}
    variables = {
        str(variable["name"]): variable
        for variable in (*(function.get("env") or ()), *(user.get("env") or ()))
    }
    merged["env"] = list(variables.values())
    merged["envFrom"] = [*(function.get("envFrom") or ()), *(user.get("envFrom") or ())]
    merged["resources"] = {
        **(function.get("resources") or {}),
        **(user.get("resources") or {}),
        **{
            kind: {
                **(dig(function, "resources", kind) or {}),
                **(dig(user, "resources", kind) or {}),
            }
            for kind in ("requests", "limits")
        },
    }
    return merged


def resources(installation: Installation, given: Obj) -> dict[str, Any]:
    """Return a container's resources: what is given, else the defaults.

    A default request gives way to a limit without a request, as Kubernetes then requests the limit:
    else the request could be above it.
    """
    limits = {**installation.limits, **(given.get("limits") or {})}
    requests = {
        name: quantity
        for name, quantity in installation.requests.items()
        if name not in (given.get("limits") or {})
    }
    fields = {"requests": requests | dict(given.get("requests") or {}), "limits": limits}
    if given.get("claims"):
        fields["claims"] = given["claims"]
    return {key: value for key, value in fields.items() if value}


def security_context(
    given: Obj, *, own: bool, is_backup: bool, pod_uid: int | None
) -> dict[str, Any]:
    """Return a container's security context: the hardest that its work allows, `given` over it.

    Our containers drop every capability and get back what root needs for this work. Others keep
    what their image expects, except that a process of another user has no capability to lose.
    """
    uid = given.get("runAsUser", pod_uid)
    unprivileged = uid not in (None, 0)
    context: dict[str, Any] = {"allowPrivilegeEscalation": False}
    if unprivileged:
        context["runAsNonRoot"] = True
    capabilities: dict[str, Any] = {}
    if own:
        context["readOnlyRootFilesystem"] = True
    if own or unprivileged:
        capabilities["drop"] = ["ALL"]
    if own and uid == 0:
        capabilities["add"] = list(_BACKUP_CAPABILITIES if is_backup else _RESTORE_CAPABILITIES)
    wanted = given.get("capabilities") or {}
    added = [*capabilities.get("add", ()), *(wanted.get("add") or ())]
    capabilities |= wanted
    if added:
        capabilities["add"] = list(dict.fromkeys(added))
    if given.get("privileged") or "SYS_ADMIN" in added:
        del context["allowPrivilegeEscalation"]  # the API refuses the combination
    context |= given
    if capabilities:
        context["capabilities"] = capabilities
    return context


def is_refused(variable: Obj, also: Mapping[str, str] = _NONE) -> bool:
    """Tell whether an environment variable would change what our programs do or load."""
    return bool(_refusal(str(variable["name"]), also))


def _refusal(name: str, also: Mapping[str, str]) -> str:
    """Return why a variable, or a prefix of variables, is not the user's to set, else ""."""
    reasons = (why for prefix, why in _REFUSED_PREFIXES.items() if name.startswith(prefix))
    return _REFUSED.get(name) or also.get(name) or next(reasons, "")


def environment_problems(order: JobOrder, steps: Sequence[ResolvedStep]) -> list[Problem]:
    """Return a problem for each environment variable that is not the user's to set."""
    return variable_problems(_places(order, steps))


def handler_problems(order: JobOrder, steps: Sequence[ResolvedStep]) -> list[Problem]:
    """Return a problem for each command that would run in a container of ours (D26)."""
    return command_problems(_places(order, steps), beside="the storage Secret")


def variable_problems(
    places: Iterable[tuple[str, Obj]], also: Mapping[str, str] = _NONE
) -> list[Problem]:
    """Return a problem for each refused variable in runtime settings, given with their path.

    `also` are names that are refused besides, and why.
    """
    names = (
        (f"{place}.{field}[{index}].{key}", str(entry.get(key) or ""))
        for place, settings in places
        for field, key in (("env", "name"), ("envFrom", "prefix"))
        for index, entry in enumerate(settings.get(field) or ())
    )
    return [
        Problem(path, f"{name} {why}: remove it")
        for path, name in names
        if (why := _refusal(name, also))
    ]


def command_problems(places: Iterable[tuple[str, Obj]], *, beside: str) -> list[Problem]:
    """Return a problem for each handler in runtime settings that runs a command.

    `beside` says what the command would get at.
    """
    return [
        Problem(
            f"{place}.{'.'.join(path)}",
            f"a command would run beside {beside}: remove it; the report and timeOut say "
            "whether the Job works",
        )
        for place, settings in places
        for path in _HANDLERS
        if dig(settings, *path) is not None
    ]


def _places(order: JobOrder, steps: Sequence[ResolvedStep]) -> list[tuple[str, Obj]]:
    """Return the runtime settings that reach containers of ours, and where they stand."""
    user = f"{order.invoker_resource} {namespace_of(order.invoker)}/{name_of(order.invoker)}"
    return [
        (f"{user} spec.runtimeSettings.container", order.spec.runtime_settings.container),
        *((f"Function {s.function} spec.runtimeSettings", s.settings) for s in steps if s.own),
    ]
