"""The CronJob of a configuration on a real API server: what is applied and what is read back."""

from typing import Any
from uuid import uuid4

from controller.api.backup import BackupConfigurationSpec
from controller.api.resources import CRON_JOB, NAMESPACE
from controller.build.cronjob import trigger_cron_job, trigger_digest
from tests.support.apiserver import ApiServer
from tests.support.clients import patient_client
from tests.support.orders import INSTALLATION, configuration_spec, obj, parsed


def test_the_digest_survives_defaults_and_finds_changes(apiserver: ApiServer) -> None:
    """Else each look at a configuration would write, or a change by hand would stay (D13)."""
    client = patient_client(apiserver.kubeconfig, pool_size=2)
    namespace = f"cron-{uuid4().hex[:8]}"
    client.create(NAMESPACE, "", {"metadata": {"name": namespace}})
    raw: dict[str, Any] = configuration_spec(
        runtimeSettings={
            "container": {
                "env": [{"name": "EMPTY", "value": ""}, {"name": "A", "value": "x"}],
                "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
            },
            "pod": {"tolerations": [{"operator": "Exists"}]},
        }
    )
    configuration = obj("BackupConfiguration", "nightly", raw)
    configuration["metadata"]["namespace"] = namespace
    ours = trigger_cron_job(configuration, parsed(BackupConfigurationSpec, raw), INSTALLATION)
    for _ in range(2):
        assert trigger_digest(client.apply(CRON_JOB, ours)) == trigger_digest(ours)
        patched = client.merge_patch(
            CRON_JOB, namespace, ours["metadata"]["name"], {"spec": {"suspend": True}}
        )
        assert trigger_digest(patched) != trigger_digest(ours)
    assert trigger_digest(client.apply(CRON_JOB, ours)) == trigger_digest(ours)
