"""Grafana shows the release's Prometheus, opens with the Overview, and lets nobody in without a password."""

import pytest
import yaml

from tests.chart.render import CHART, GIVEN

GRAFANA = CHART / "charts" / "grafana"


def provisioned(objects):
    """What Grafana finds in its folders: the ConfigMap's files by the folder."""
    pod = objects.get("Deployment", "kit-grafana")["spec"]["template"]["spec"]
    maps = {v["name"]: v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v}
    return {
        mount["mountPath"].removeprefix("/etc/grafana/provisioning/"): objects.data(maps[mount["name"]])
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] in maps
    }


def source_of(objects):
    return yaml.safe_load(provisioned(objects)["datasources"]["prometheus.yaml"]).get("datasources", [])


@pytest.mark.parametrize("url", ["", "http://prometheus.example:9090"])
def test_grafana_looks_at_the_releases_prometheus_unless_told_otherwise(helm, url):
    (source,) = source_of(helm.render(GIVEN, {"grafana": {"prometheusUrl": url}}))
    assert source["url"] == (url or "http://kit-prometheus:9090")
    assert source["isDefault"] is True


def test_grafana_opens_with_the_overview(kit):
    folder = "/etc/grafana/provisioning/dashboards"
    files = provisioned(kit)["dashboards"]
    (provider,) = yaml.safe_load(files["celery-kit.yaml"])["providers"]
    assert provider["options"]["path"] == folder
    home = kit.variables("kit-grafana/grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.removeprefix(f"{folder}/") in files


@pytest.mark.behaviour("S16")
def test_grafana_lets_nobody_in_without_a_password_and_calls_nobody(kit):
    variables = kit.variables("kit-grafana/grafana")
    assert variables["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert variables["GF_SECURITY_DISABLE_GRAVATAR"] == "true"
    assert variables["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert not [name for name in variables if name.startswith("GF_INSTALL")]


def test_grafana_alone_has_the_data_that_it_is_told_of_and_no_dashboard(helm):
    given = {"auth": {"password": "canary"}}
    bare = helm.render(given, chart=GRAFANA)
    assert set(provisioned(bare)) == {"datasources"}
    assert source_of(bare) == []
    assert "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH" not in bare.variables("kit-grafana/grafana")
    (source,) = source_of(helm.render(given, {"prometheusUrl": "http://p:9090"}, chart=GRAFANA))
    assert source["url"] == "http://p:9090"
