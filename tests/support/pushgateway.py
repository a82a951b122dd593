"""What the Pushgateway of the installation holds, read through the API server."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support.cluster import Cluster

_PATH = "/api/v1/namespaces/drey/services/drey-pushgateway:56789/proxy/metrics"

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]
"""Metric name → labels and value of each sample; the gateway's own labels are taken off."""


def pushed(cluster: Cluster, job: str) -> Samples:
    """Return the samples of one group, which has no label but `job`."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(cluster.kubectl("get", "--raw", _PATH)):
        for sample in family.samples:
            if sample.labels.get("job") != job:
                continue
            assert sample.labels.get("instance") == "", sample
            labels = {k: v for k, v in sample.labels.items() if k not in ("job", "instance")}
            samples.setdefault(sample.name, []).append((labels, sample.value))
    return samples
