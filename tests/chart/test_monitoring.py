"""Prometheus reads the same wherever it runs, and rules and dashboards are the same everywhere."""

from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from autoscaler.config import parse
from autoscaler.metrics import Metrics, Tick
from autoscaler.model import Action, Decision, Fleet, Observation, Reason, Signal, Worker
from autoscaler.policies import estimate
from autoscaler.prometheus import SERIES
from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN
from tests.contract.monitoring import ALERTS, MONITORING, QUERIES

LOCAL = MONITORING / "prometheus.yml"
FINDS = ("dns_sd_configs", "file_sd_configs", "relabel_configs")
MONITORS = ("PodMonitor", "ServiceMonitor")
CUSTOM = (*MONITORS, "PrometheusRule")
NODES = [{"names": ["nodes.broker.example"], "type": "A", "port": 15692, "refresh_interval": "5s"}]


def config_of(objects):
    return yaml.safe_load(objects.data("kit-prometheus")["prometheus.yml"])


def jobs_of(config):
    """What each job reads, without how it finds its targets."""
    return {
        job["job_name"]: {key: value for key, value in job.items() if key not in FINDS}
        for job in config["scrape_configs"]
    }


def monitors_of(objects):
    """The endpoints of all monitors with the monitor, and the labels that they set."""
    for monitor in (object_ for kind in MONITORS for object_ in objects.of(kind)):
        endpoints = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
        for endpoint in endpoints:
            rules = endpoint["relabelings"]
            yield monitor, endpoint, {rule["targetLabel"]: rule for rule in rules if "targetLabel" in rule}


@pytest.fixture
def operated(helm):
    return helm.render(GIVEN, CASES["operator"])


@pytest.mark.behaviour("C30")
def test_both_configurations_read_the_same(kit):
    ours, local = config_of(kit), yaml.safe_load(LOCAL.read_text())
    assert jobs_of(ours) == jobs_of(local)
    assert ours["global"] == local["global"] | {"sample_limit": 50000}


@pytest.mark.behaviour("C30")
def test_the_families_are_read_that_the_autoscaler_decides_by(kit):
    (job,) = (job for job in config_of(kit)["scrape_configs"] if job["job_name"] == "kit-rabbitmq")
    assert "queue_coarse_metrics" in job["params"]["family"]
    assert all(name.startswith("rabbitmq_detailed_queue_messages_") for name in SERIES)
    assert {"queue_delivery_metrics", "queue_exchange_metrics"} <= {*job["params"]["family"]}


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


@pytest.mark.behaviour("S16")
def test_prometheus_has_no_rights_in_the_cluster_and_takes_no_orders(kit):
    arguments = kit.container("kit-prometheus/prometheus")["args"]
    assert not [a for a in arguments if a.startswith(("--web.enable-admin-api", "--web.enable-lifecycle"))]
    assert (
        kit.get("Deployment", "kit-prometheus")["spec"]["template"]["spec"]["automountServiceAccountToken"]
        is False
    )


@pytest.mark.behaviour("C29", "C40")
@pytest.mark.parametrize("folder", ["rules", "dashboards"])
def test_the_charts_rules_and_dashboards_are_the_tested_ones(folder):
    ending = {"rules": "*.yaml", "dashboards": "*.json"}[folder]

    def bytes_in(path: Path):
        return {file.name: file.read_bytes() for file in path.glob(ending)}

    assert bytes_in(CHART / "files" / folder) == bytes_in(MONITORING / folder), "run `make docs`"


def test_prometheus_has_the_rules_about_what_there_is_unchanged(helm):
    for case, missing in {
        "default": {"flower"},
        "no autoscaler": {"autoscaler", "flower"},
        "no pool": {"autoscaler", "flower", "worker"},
        "external broker": {"flower"},
    }.items():
        data = helm.render(GIVEN, CASES[case]).data("kit-prometheus")
        rules = {name.removesuffix(".rules.yaml"): text for name, text in data.items() if "rules" in name}
        assert rules == {
            path.stem: path.read_text()
            for path in MONITORING.glob("rules/*.yaml")
            if path.stem not in missing
        }
    no_exporter = {"mysql": {"exporter": {"enabled": False}}}
    assert "mysql.rules.yaml" not in helm.render(GIVEN, no_exporter).data("kit-prometheus")
    assert config_of(helm.render(GIVEN))["rule_files"] == ["*.rules.yaml"]


@pytest.mark.behaviour("C29")
@pytest.mark.parametrize("mode", ["bundled", "operator", "none"])
def test_a_mode_makes_its_own_kinds_of_objects_only(helm, mode):
    case = {"bundled": "default", "operator": "operator", "none": "no monitoring"}[mode]
    objects = helm.render(GIVEN, CASES[case])
    assert {o["kind"] for o in objects if o["kind"] in CUSTOM} == (
        set(CUSTOM) if mode == "operator" else set()
    )
    parts = {o["metadata"]["labels"]["app.kubernetes.io/component"] for o in objects.of("Deployment")}
    assert ({"prometheus", "grafana"} <= parts) == (mode == "bundled")
    for_a_sidecar = [o for o in objects.of("ConfigMap") if "grafana_dashboard" in o["metadata"]["labels"]]
    assert bool(for_a_sidecar) == (mode == "operator")


@pytest.mark.behaviour("C29")
def test_the_users_prometheus_and_grafana_find_all_that_is_made_for_them(operated):
    made = [
        o
        for o in operated
        if o["kind"] in CUSTOM or o["metadata"]["name"].startswith("kit-grafana-dashboard")
    ]
    assert made
    for object_ in made:
        assert object_["metadata"]["labels"]["release"] == "prometheus"


def test_monitors_read_what_the_bundled_prometheus_reads(helm, operated):
    bundled = helm.render(
        GIVEN, CASES["operator"], {"monitoring": {"mode": "bundled"}, "prometheus": {"enabled": True}}
    )
    ours = config_of(bundled)
    read = {}
    for monitor, endpoint, labels in monitors_of(operated):
        assert labels["job"]["replacement"] not in read
        assert monitor["spec"]["sampleLimit"] == ours["global"]["sample_limit"]
        assert endpoint["interval"] == ours["global"]["scrape_interval"]
        assert endpoint["scrapeTimeout"] == ours["global"]["scrape_timeout"]
        what = {"job_name": labels["job"]["replacement"]}
        what |= {"metrics_path": endpoint["path"]} if endpoint.get("path", "/metrics") != "/metrics" else {}
        what |= {"params": endpoint["params"]} if "params" in endpoint else {}
        read[what["job_name"]] = what
    assert read == jobs_of(ours)


def test_monitors_find_each_pod_once_and_by_a_port_that_it_has(operated):
    services = operated.of("Service")
    for monitor, endpoint, labels in monitors_of(operated):
        job = labels["job"]["replacement"]
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        if monitor["kind"] == "PodMonitor":
            pods = [
                o["spec"]["template"]
                for o in operated.of("Deployment")
                if wanted <= o["spec"]["template"]["metadata"]["labels"].items()
            ]
            assert pods, job
            for pod in pods:
                ports = [port["name"] for c in pod["spec"]["containers"] for port in c.get("ports", [])]
                assert endpoint["port"] in ports, job
        else:
            kept = {r["regex"] for r in endpoint["relabelings"] if r.get("action") == "keep"}
            found = [
                s
                for s in services
                if wanted <= s["metadata"]["labels"].items() and (not kept or s["metadata"]["name"] in kept)
            ]
            assert [endpoint["port"] in [p["name"] for p in s["spec"]["ports"]] for s in found] == [True], job


@pytest.mark.behaviour("C25")
def test_pods_that_are_named_as_a_server_are_reached_at_any_port_and_addresses_at_the_urls(helm):
    pods = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    address = {"ipBlock": {"cidr": "10.5.0.0/16"}}
    at_its_port = [{"protocol": "TCP", "port": 80}]

    def ways(*peers):
        """To a Prometheus whose Service has port 80, as its pods may not."""
        objects = helm.render(
            GIVEN,
            CASES["operator"],
            {"autoscaler": {"prometheusUrl": "http://prometheus.monitoring"}},
            {"networkPolicy": {"servers": {"prometheus": list(peers), "apiServer": [pods]}}},
        )
        egress = objects.get("NetworkPolicy", "kit-autoscaler")["spec"]["egress"]
        api = {"to": [pods], "ports": [{"protocol": "TCP", "port": port} for port in (443, 6443)]}
        assert api in egress
        return [rule for rule in egress if rule != api and not at_workers(rule)]

    def at_workers(rule):
        return rule.get("ports") == [{"protocol": "TCP", "port": 8001}]

    assert ways() == [{"ports": at_its_port}]
    assert ways(address) == [{"to": [address], "ports": at_its_port}]
    assert ways(pods) == [{"to": [pods]}]
    assert ways(pods, address) == [{"to": [address], "ports": at_its_port}, {"to": [pods]}]


def test_a_workers_series_bear_their_pool_with_the_operator_too(operated):
    (rule,) = (labels["pool"] for *_, labels in monitors_of(operated) if "pool" in labels)
    assert rule["sourceLabels"] == ["__meta_kubernetes_pod_label_celery_kit_pool"]
    (worker,) = (o for o in operated.of("Deployment") if o["metadata"]["name"] == "kit-worker-mail")
    assert worker["spec"]["template"]["metadata"]["labels"]["celery-kit/pool"] == "mail"


def test_the_operator_gets_the_rules_with_only_the_own_autoscaler_to_be_missed(operated):
    rules = {o["metadata"]["name"]: o["spec"] for o in operated.of("PrometheusRule")}
    own = 'deployment=~"kit-worker-default|kit-worker-mail",deployment_namespace="team"'
    files = {f"kit-{path.stem}": path.read_text() for path in MONITORING.glob("rules/*.yaml")}
    absent = "absent(autoscaler_desired_replicas)"
    assert absent in files["kit-autoscaler"]
    assert rules == {
        name: yaml.safe_load(text.replace(absent, f"absent(autoscaler_desired_replicas{{{own}}})"))
        for name, text in files.items()
    }


@pytest.mark.parametrize(("case", "kind"), [("default", "ConfigMap"), ("operator", "PrometheusRule")])
def test_alerts_link_to_where_the_runbook_is(helm, case, kind):
    page = "https://wiki.example/runbook"
    text = str(helm.render(GIVEN, CASES[case], {"monitoring": {"runbookUrl": page}}).of(kind))
    assert f"{page}#kitqueuestuck" in text
    assert "docs/runbook.md" not in text


@pytest.mark.behaviour("C29")
@pytest.mark.parametrize("case", ["default", "operator"])
def test_dashboards_reach_grafana_unchanged_and_fit_into_a_configmap(helm, case):
    maps = [
        o for o in helm.render(GIVEN, CASES[case]).of("ConfigMap") if "dashboard" in o["metadata"]["name"]
    ]
    assert all(sum(map(len, o["data"].values())) < 2**20 for o in maps)
    data = {name: text for o in maps for name, text in o["data"].items() if name.endswith(".json")}
    assert data == {path.name: path.read_text() for path in MONITORING.glob("dashboards/*.json")}


def test_no_mode_depends_on_what_the_cluster_offers(helm):
    text = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))
    assert "Capabilities" not in text


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://nodes.broker.example:15692", {"dns_sd_configs": NODES}),
        (
            "https://nodes.broker.example:15692/",
            {
                "scheme": "https",
                "tls_config": {"server_name": "nodes.broker.example"},
                "dns_sd_configs": NODES,
            },
        ),
        ("http://10.1.2.3:15692", {"static_configs": [{"targets": ["10.1.2.3:15692"]}]}),
        ("http://[fd00::1]:15692", {"static_configs": [{"targets": ["[fd00::1]:15692"]}]}),
        ("http://broker.example", {"dns_sd_configs": [NODES[0] | {"names": ["broker.example"], "port": 80}]}),
    ],
)
def test_every_node_of_a_broker_elsewhere_is_read(helm, url, found):
    url_of = {"rabbitmq": {"external": {"metricsUrl": url, "vhost": "/team a"}}}
    queues, node = config_of(helm.render(GIVEN, CASES["external broker"], url_of))["scrape_configs"][:2]
    assert (
        queues
        == {
            "job_name": "kit-rabbitmq",
            "metrics_path": "/metrics/detailed",
            "params": {
                # not of exchanges: a broker that nobody knows may be one that cannot be read with them
                "family": ["queue_coarse_metrics", "queue_consumer_count", "queue_delivery_metrics"],
                "vhost": ["/team a"],
            },
        }
        | found
    )
    assert node == {"job_name": "kit-rabbitmq-node"} | found


def test_the_path_before_the_metrics_of_a_broker_elsewhere_is_kept(helm):
    url = {"rabbitmq": {"external": {"metricsUrl": "http://broker.example:15692/rabbit/"}}}
    jobs = jobs_of(config_of(helm.render(GIVEN, CASES["external broker"], url)))
    assert jobs["kit-rabbitmq"]["metrics_path"] == "/rabbit/metrics/detailed"
    assert jobs["kit-rabbitmq-node"]["metrics_path"] == "/rabbit/metrics"


@pytest.fixture(params=["in the kit", "alone"])
def configured(helm, request):
    """The configuration that values of the subchart make, in both places where it is written."""

    def make(**values):
        if request.param == "alone":
            return config_of(helm.render(values, chart=CHART / "charts" / "prometheus"))
        return config_of(helm.render(GIVEN, {"prometheus": values}))

    return make


def test_jobs_of_the_user_come_last(configured):
    job = {"job_name": "mine", "static_configs": [{"targets": ["mine:80"]}]}
    assert configured(extraScrapeConfigs=[job])["scrape_configs"][-1] == job


def test_alerts_go_to_the_users_alertmanagers(configured):
    assert "alerting" not in configured()
    (to,) = configured(alertmanagers=["a:9093", "b.ns:9093"])["alerting"]["alertmanagers"]
    assert to == {"static_configs": [{"targets": ["a:9093", "b.ns:9093"]}]}


def test_prometheus_alone_knows_itself(helm):
    objects = helm.render(chart=CHART / "charts" / "prometheus")
    (job,) = config_of(objects)["scrape_configs"]
    assert job == {"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]}


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"monitoring": {"mode": "operator"}},
            "prometheus.enabled: must be false where monitoring.mode is operator",
        ),
        (
            {
                "monitoring": {"mode": "none"},
                "prometheus": {"enabled": False},
                "autoscaler": {"prometheusUrl": "http://p"},
            },
            "grafana.enabled: must be false where monitoring.mode is none",
        ),
        (
            {"prometheus": {"enabled": False}, "autoscaler": {"prometheusUrl": "http://p"}},
            "grafana.prometheusUrl: is required where prometheus.enabled is false",
        ),
        (
            {"rabbitmq": {"enabled": False, "external": {"host": "b", "existingSecret": "s"}}},
            "rabbitmq.external.metricsUrl: is required where rabbitmq.enabled is false",
        ),
        ({"rabbitmq": {"external": {"metricsUrl": "http://u:p@b"}}}, "at '/rabbitmq/external/metricsUrl'"),
        (
            {"monitoring": {"intervalSeconds": 30}},
            "metricMaxAgeSeconds: 30 must be above monitoring.intervalSeconds, which is 30",
        ),
        ({"monitoring": {"mode": "auto"}}, "at '/monitoring/mode'"),
    ],
)
def test_monitoring_that_would_see_nothing_is_refused(helm, values, says):
    assert says in helm.refusal(values)


def test_the_autoscaler_tells_its_broker_from_others_of_a_shared_prometheus(helm, kit, operated):
    def labels(objects):
        return parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode()).prometheus_labels

    assert labels(kit) == {}
    found = {"job": "kit-rabbitmq", "namespace": "team", "service": "kit-rabbitmq-headless"}
    assert labels(operated) == found
    more = {"autoscaler": {"prometheusLabels": {"cluster": "a", "job": "mine"}}}
    assert labels(helm.render(GIVEN, CASES["operator"], more)) == found | {"cluster": "a", "job": "mine"}
    assert labels(helm.render(GIVEN, CASES["external"], more)) == {"cluster": "a", "job": "mine"}


def test_the_autoscaler_tells_its_workers_from_others_of_a_shared_prometheus(helm, kit, operated):
    def labels(objects):
        return parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode()).worker_labels

    assert labels(kit) == {}
    found = {"job": "kit-worker", "namespace": "team", "release": "kit"}
    assert labels(operated) == found
    (set_,) = (labels for _, _, labels in monitors_of(operated) if "pool" in labels)
    assert {name: set_[name]["replacement"] for name in ("job", "release")} == {
        name: found[name] for name in ("job", "release")
    }
    more = {"autoscaler": {"workerLabels": {"cluster": "a"}}}
    assert labels(helm.render(GIVEN, CASES["operator"], more)) == found | {"cluster": "a"}
    assert labels(helm.render(GIVEN, CASES["external"], more)) == {"cluster": "a"}


@pytest.mark.behaviour("C31")
def test_the_dashboard_and_the_alerts_show_the_thresholds_of_the_values(helm):
    scale = {"policy": "threshold", "targetBacklogPerWorker": 7, "upThreshold": 1.5}
    shown = shown_of(helm, scale | {"minWorkers": 2, "maxWorkers": 4})
    expected = {
        "autoscaler_signal_target": 1.5 * 7 * 2,
        "autoscaler_min_replicas": 2,
        "autoscaler_max_replicas": 4,
    }
    for name, value in expected.items():
        more = {"signal": "backlog"} if "signal" in name else {}
        assert shown.get_sample_value(name, {"scale_target": "default"} | more) == value
        assert any(name in query for _, query in QUERIES)
    assert "autoscaler_max_replicas" in ALERTS["KitAutoscalerPinnedAtMax"]["expr"]


@pytest.mark.behaviour("C31")
def test_the_dashboard_and_an_alert_show_the_promise_of_the_values(helm):
    shown = shown_of(helm, {"sloSeconds": 12.5, "expectedTaskSeconds": 4})
    for name, value in {"autoscaler_slo_seconds": 12.5, "autoscaler_service_seconds": 4}.items():
        assert shown.get_sample_value(name, {"scale_target": "default"}) == value
        assert any(name in query for _, query in QUERIES)
    assert "autoscaler_slo_seconds" in ALERTS["KitPromiseInfeasible"]["expr"]


def shown_of(helm, scale):
    """What an autoscaler exports that was told these values and sees two workers."""
    text = helm.render(GIVEN, {"worker": {"autoscale": scale}}).data("kit-autoscaler")["autoscaler.yaml"]
    configured = parse(text.encode()).worker.pools["default"].autoscale
    fleet = Fleet(tuple(Worker(name, started=0, ready=True) for name in "ab"))
    asked, _ = estimate(None, Observation((Signal("default", "ready", 22, 0),), fleet=fleet), configured, 0)
    tick = Tick(0, configured, asked, Decision(4, Action.UP, Reason.DRAIN_BACKLOG, ""), 0)
    registry = CollectorRegistry()
    Metrics(registry, "act", lambda: {"default": tick}, lambda: True)
    return registry
