"""The observer of BackupConfigurations, of both drivers."""

from collections.abc import Mapping

from controller.api.backup import (
    SNAPSHOTTER,
    BackupConfigurationSpec,
    backup_configuration_problems,
)
from controller.api.model import parse_spec
from controller.api.names import trigger_name
from controller.api.objects import Key, Obj, is_deleting
from controller.api.references import TargetRef
from controller.api.resources import CRON_JOB, PVC, ROLE_BINDING, SERVICE_ACCOUNT
from controller.api.workload import volumes_of
from controller.build.identity import snapshot_identity
from controller.observe.live_storage import read_claims, read_target
from controller.observe.sight import Sight
from controller.plan import Refusal
from controller.reconcile.observed import ConfigurationObserved, References


class ConfigurationObserver:
    """Observes BackupConfigurations."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight

    def observe(self, key: Key, refusal: Refusal | None) -> ConfigurationObserved | None:
        """Return the configuration and what it names, None when it is gone."""
        sight = self._sight
        configuration = sight.caches.configurations.get(key)
        if configuration is None:
            return None
        spec = parse_spec(BackupConfigurationSpec, configuration)
        references, target = References(), None
        claims: Mapping[str, Obj] | None = None
        if isinstance(spec, BackupConfigurationSpec) and not is_deleting(configuration):
            if spec.driver == SNAPSHOTTER:
                target, claims = self._snapshot_target(spec, key.namespace)
            else:
                references = sight.references(spec, key.namespace)
        return ConfigurationObserved(
            configuration,
            spec,
            references,
            children=self._children(configuration, key),
            installation=sight.installation,
            target=target,
            claims_found=claims,
            snapshots_served=sight.caches.snapshots_served(),
            refusal=refusal,
        )

    def _children(self, configuration: Obj, key: Key) -> dict[tuple[str, str], Obj]:
        """Return what exists of the CronJob with its identity, and of the identity of Jobs."""
        caches = self._sight.caches
        trigger, jobs = trigger_name(key.name), snapshot_identity(configuration)
        listers = (
            (CRON_JOB, caches.cron_jobs, (trigger,)),
            (SERVICE_ACCOUNT, caches.service_accounts, (trigger, jobs)),
            (ROLE_BINDING, caches.role_bindings, (trigger, jobs)),
        )
        return {
            (resource.kind, name): found
            for resource, lister, names in listers
            for name in names
            if (found := lister.get(Key(key.namespace, name))) is not None
        }

    def _snapshot_target(
        self, spec: BackupConfigurationSpec, namespace: str
    ) -> tuple[Obj | None, Mapping[str, Obj] | None]:
        """Return the target and its claims by name; nothing is read for a spec that is wrong.

        One read for a claim. For a workload one more, or up to three where it has few claims.
        """
        if backup_configuration_problems(spec, namespace=namespace):
            return None, None
        ref = spec.target.ref if spec.target else TargetRef()
        target = read_target(self._sight.client, ref.kind, Key(namespace, ref.name))
        if target is None:
            return None, None
        if ref.kind == PVC.kind:
            return target, {ref.name: target}
        replicas = spec.target.replicas if spec.target else None
        names = volumes_of(ref.kind, target, replicas).claims
        return target, read_claims(self._sight.client, namespace, names)
