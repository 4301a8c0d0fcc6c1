"""Prometheus in the cluster reads what Prometheus on one machine reads, and finds it by DNS."""

from pathlib import Path

import pytest
import yaml

from autoscaler.prometheus import SERIES
from tests.chart.cases import CASES
from tests.chart.render import GIVEN

LOCAL = Path(__file__).parents[2] / "monitoring" / "prometheus.yml"
FINDS = ("dns_sd_configs", "file_sd_configs", "relabel_configs")


def config_of(objects):
    return yaml.safe_load(objects.data("kit-prometheus")["prometheus.yml"])


def test_both_configurations_read_the_same(kit):
    ours, local = config_of(kit), yaml.safe_load(LOCAL.read_text())

    def jobs(config):
        return {
            job["job_name"]: {key: value for key, value in job.items() if key not in FINDS}
            for job in config["scrape_configs"]
        }

    assert jobs(ours) == jobs(local)
    assert ours["global"] == local["global"]


def test_the_families_are_read_that_the_autoscaler_decides_by(kit):
    (job,) = (job for job in config_of(kit)["scrape_configs"] if job["job_name"] == "kit-rabbitmq")
    assert "queue_coarse_metrics" in job["params"]["family"]
    assert all(name.startswith("rabbitmq_detailed_queue_messages_") for name in SERIES)


@pytest.mark.parametrize("case", ["default", "pools", "no autoscaler", "no pool", "much"])
def test_every_target_is_a_service_with_that_port(helm, case):
    objects = helm.render(GIVEN, CASES[case])
    ports = {
        service["metadata"]["name"]: {port["port"] for port in service["spec"]["ports"]}
        for service in objects.of("Service")
    }
    for job in config_of(objects)["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        for name in found["names"]:
            assert found["port"] in ports[name], job["job_name"]


def test_what_may_have_several_pods_is_found_pod_by_pod(kit):
    services = {service["metadata"]["name"]: service["spec"] for service in kit.of("Service")}
    for job in config_of(kit)["scrape_configs"]:
        if job["job_name"] in {
            "kit-rabbitmq",
            "kit-rabbitmq-node",
            "kit-gateway",
            "kit-worker",
            "kit-autoscaler",
        }:
            for name in job["dns_sd_configs"][0]["names"]:
                assert services[name]["clusterIP"] == "None"
                # one that is not ready yet, or drains, has metrics too
                assert services[name]["publishNotReadyAddresses"] is True


def test_a_workers_series_bear_their_pool(helm):
    objects = helm.render(GIVEN, CASES["pools"])
    (job,) = (job for job in config_of(objects)["scrape_configs"] if job["job_name"] == "kit-worker")
    assert [
        (rule["regex"], rule["target_label"], rule["replacement"]) for rule in job["relabel_configs"]
    ] == [(f"kit-worker-{pool}", "pool", pool) for pool in ("default", "fixed", "slow")]
    assert job["dns_sd_configs"][0]["names"] == [rule["regex"] for rule in job["relabel_configs"]]


def test_prometheus_has_no_rights_in_the_cluster_and_takes_no_orders(kit):
    arguments = kit.container("kit-prometheus/prometheus")["args"]
    assert not [a for a in arguments if a.startswith(("--web.enable-admin-api", "--web.enable-lifecycle"))]


def test_grafana_looks_at_the_releases_prometheus(kit):
    (source,) = yaml.safe_load(kit.data("kit-grafana")["prometheus.yaml"])["datasources"]
    assert source["url"] == "http://kit-prometheus:9090"
