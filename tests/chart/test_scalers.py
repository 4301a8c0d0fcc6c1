"""KEDA and HPAs that scale pools in the autoscaler's place, on its advice or by the backlog."""

import math
import re

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from autoscaler.config import parse
from autoscaler.metrics import Metrics, Tick
from autoscaler.model import Action, Decision, Estimate, Observation, Reason
from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, LONG, POOL
from tests.pages import blocks

PAGE = CHART.parents[1] / "docs" / "autoscaler.md"

HOLD = (Action.HOLD, Reason.DEADBAND)
OWN_ADVICE = {"deployment": "kit-worker-default", "deployment_namespace": "team"}
BOUNDS = {"minWorkers": 2, "maxWorkers": 7}


def asked_of(query):
    """The metric whose greatest a query asks for, and the labels that it has to have."""
    selector = promql_parser.parse(query).expr
    assert all(str(matcher.op) == str(promql_parser.MatchOp.Equal) for matcher in selector.matchers.matchers)
    return selector.name, {matcher.name: matcher.value for matcher in selector.matchers.matchers}


def shown_by(file):
    """The labels of what an autoscaler with this configuration advises about the pool `default`."""
    config = parse(file.encode())
    asked = Estimate(Observation())
    tick = Tick(0, config.worker.pools["default"].autoscale, asked, Decision(1, *HOLD, ""), 0)
    registry = CollectorRegistry()
    Metrics(registry, config.mode, lambda: {"default": tick}, lambda: True, config.actuator)
    (family,) = (f for f in registry.collect() if f.name == "autoscaler_desired_replicas")
    (sample,) = family.samples
    return sample.labels


def by(scaler, mode="advise", **autoscale):
    return {"autoscaler": {"mode": mode}, "worker": {"autoscale": {"scaler": scaler} | autoscale}}


def scaled_object(objects, pool="default"):
    return objects.get("ScaledObject", f"kit-worker-{pool}")["spec"]


def trigger(objects, pool="default"):
    (found,) = scaled_object(objects, pool)["triggers"]
    return found


def hpa(objects, pool="default"):
    return objects.get("HorizontalPodAutoscaler", f"kit-worker-{pool}")["spec"]


@pytest.mark.behaviour("C8")
@pytest.mark.parametrize("mode", ["act", "dryRun", "advise", "off"])
@pytest.mark.parametrize("scaler", ["keda", "hpa"])
def test_a_pool_is_scaled_by_one_and_says_no_number_itself(helm, scaler, mode):
    objects = helm.render(GIVEN, by(scaler, mode))
    assert len(objects.of("ScaledObject") + objects.of("HorizontalPodAutoscaler")) == 1
    assert "replicas" not in objects.get("Deployment", "kit-worker-default")["spec"]


@pytest.mark.parametrize("scaler", ["keda", "hpa"])
def test_a_pool_that_does_not_scale_is_nobodys(helm, scaler):
    objects = helm.render(by(scaler, enabled=False))
    assert not objects.of("ScaledObject") + objects.of("HorizontalPodAutoscaler")
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 1


@pytest.mark.behaviour("C31")
def test_limits_and_target_reach_them_as_they_were_given(helm):
    bounds = BOUNDS | {"targetBacklogPerWorker": 2500000.5}
    keda = helm.render(by("keda", "off", **bounds))
    spec = scaled_object(keda)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 7)
    assert trigger(keda)["metadata"]["threshold"] == "2500000.5"
    native = hpa(helm.render(by("hpa", "off", **bounds)))
    assert (native["minReplicas"], native["maxReplicas"]) == (2, 7)
    target = native["metrics"][0]["external"]["target"]
    assert target == {"type": "AverageValue", "averageValue": "2500000.5"}


@pytest.mark.parametrize(("scaler", "spec"), [("keda", scaled_object), ("hpa", hpa)])
def test_each_scales_the_deployment_of_its_own_pool(helm, scaler, spec):
    objects = helm.render(by(scaler), {"worker": {"pools": {"more": {"queues": ["more"]}}}})
    for pool in ("default", "more"):
        assert spec(objects, pool)["scaleTargetRef"]["name"] == f"kit-worker-{pool}"


def test_advice_is_a_number_of_workers_and_is_followed_one_to_one(helm):
    keda = trigger(helm.render(by("keda")))
    labels = OWN_ADVICE | {"scale_target": "default"}
    assert asked_of(keda["metadata"]["query"]) == ("autoscaler_desired_replicas", labels)
    assert (keda["metricType"], keda["metadata"]["threshold"]) == ("AverageValue", "1")
    external = hpa(helm.render(by("hpa")))["metrics"][0]["external"]
    assert external == {
        "metric": {
            "name": "autoscaler_desired_replicas",
            "selector": {"matchLabels": labels},
        },
        "target": {"type": "AverageValue", "averageValue": "1"},
    }


def test_the_autoscaler_is_told_of_pools_only_that_it_sets_or_advises_on(helm):
    pools = {"mine": {"queues": ["mine"]}, "kedas": {"queues": ["k"], "autoscale": {"scaler": "keda"}}}
    for mode, told in (("act", {"default", "mine"}), ("advise", {"default", "mine", "kedas"})):
        objects = helm.render({"autoscaler": {"mode": mode}, "worker": {"pools": pools}})
        file = objects.data("kit-autoscaler")["autoscaler.yaml"]
        assert {name for name in ("default", "mine", "kedas") if f"kit-worker-{name}" in file} == told


@pytest.mark.behaviour("C30")
def test_without_advice_the_backlog_of_all_its_queues_counts_and_a_gap_in_it_is_no_data(helm):
    objects = helm.render(CASES["followers"])
    series = r'rabbitmq_detailed_queue_messages{vhost="/",queue=~"a\\.b|c"}'
    query = trigger(objects, "more")["metadata"]["query"]
    assert query == f"sum({series}) and count({series}) == 2"
    promql_parser.parse(query)
    metric = hpa(objects, "hpa")["metrics"][0]["external"]["metric"]
    assert metric["name"] == "rabbitmq_detailed_queue_messages"
    assert metric["selector"]["matchExpressions"] == [
        {"key": "queue", "operator": "In", "values": ["d", "e"]}
    ]


def test_a_prometheus_of_many_releases_is_asked_for_this_one(helm):
    by_keda = {"worker": {"autoscale": {"scaler": "keda"}}}
    backlog = trigger(helm.render(CASES["operator"], by_keda))["metadata"]["query"]
    assert backlog.count('namespace="team",service="kit-rabbitmq-headless"') == 2
    promql_parser.parse(backlog)


@pytest.mark.behaviour("C30")
@pytest.mark.parametrize("release", ["kit", "other", LONG])
@pytest.mark.parametrize("case", ["default", "external", "operator", "no monitoring"])
def test_the_advice_that_is_followed_is_that_of_the_releases_own_autoscaler(helm, release, case):
    follow = CASES[case], {"autoscaler": {"mode": "advise"}}
    objects = helm.render(*follow, {"worker": {"autoscale": {"scaler": "keda"}}}, release=release)
    (scaled,) = (o["spec"] for o in objects.of("ScaledObject") if o["metadata"]["labels"][POOL] == "default")
    (file,) = (data for o in objects.of("ConfigMap") if (data := o["data"].get("autoscaler.yaml")))
    advised = shown_by(file)
    assert advised["deployment"] == scaled["scaleTargetRef"]["name"]
    query = scaled["triggers"][0]["metadata"]["query"]
    assert asked_of(query) == ("autoscaler_desired_replicas", advised)
    native = helm.render(*follow, {"worker": {"autoscale": {"scaler": "hpa"}}}, release=release)
    (spec,) = (
        o["spec"] for o in native.of("HorizontalPodAutoscaler") if o["metadata"]["labels"][POOL] == "default"
    )
    selector = spec["metrics"][0]["external"]["metric"]["selector"]["matchLabels"]
    assert selector == advised
    # longer ones are no values of labels in Kubernetes
    assert all(len(value) <= 63 for value in selector.values())


def test_missing_data_holds_the_number(helm):
    for least, kept in ((0, 1), (3, 3)):
        objects = helm.render(by("keda", minWorkers=least))
        assert trigger(objects)["metadata"]["ignoreNullValues"] == "false"
        # KEDA ends all workers where `replicas` is 0, whatever the behaviour
        assert scaled_object(objects)["fallback"] == {
            "behavior": "currentReplicas",
            "failureThreshold": 3,
            "replicas": kept,
        }


@pytest.mark.parametrize(
    ("mode", "window", "cooldown", "down"),
    [
        ("off", 60, 30, (60, 30)),
        ("off", 90000, 90000, (3600, 1800)),  # no more does Kubernetes take
        ("off", 0.5, 0, (1, 1)),
        ("off", 0, 30, (0, 30)),
        ("off", None, 30, (60, 30)),  # they learn nothing
        ("advise", 60, 30, (0, 15)),  # the advice has both in it already
    ],
)
def test_they_go_up_at_once_and_down_no_sooner_than_the_autoscaler_would(helm, mode, window, cooldown, down):
    autoscale = {"downWindowSeconds": window, "cooldownSeconds": cooldown, "maxWorkers": 12}
    native = hpa(helm.render(by("hpa", mode, **autoscale)))["behavior"]
    of_keda = scaled_object(helm.render(by("keda", mode, **autoscale)))
    assert of_keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == native
    assert native["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert native["scaleUp"]["policies"] == [{"type": "Pods", "value": 12, "periodSeconds": 15}]
    falling = native["scaleDown"]
    (policy,) = falling["policies"]
    assert (falling["stabilizationWindowSeconds"], policy["periodSeconds"]) == down
    # KEDA takes the last worker away by itself
    assert of_keda["cooldownPeriod"] == (
        0 if mode == "advise" else math.ceil(60 if window is None else window)
    )


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://kit-prometheus.team.svc:9090"),
        ({"prometheusUrl": "http://p.example"}, "http://p.example"),
    ],
)
def test_keda_is_in_another_namespace_and_finds_prometheus_all_the_same(helm, values, url):
    objects = helm.render(by("keda"), {"autoscaler": values})
    assert trigger(objects)["metadata"]["serverAddress"] == url


def test_an_adapter_knows_its_prometheus_itself(helm):
    assert hpa(helm.render(by("hpa", "off"), CASES["no monitoring"], {"autoscaler": {"prometheusUrl": ""}}))


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (by("hpa", minWorkers=0), "autoscale.minWorkers: must be at least 1 with scaler hpa"),
        (by("magic"), "/worker/autoscale/scaler"),
        (
            by("hpa", "off")
            | {"worker": {"autoscale": {"scaler": "hpa"}, "pools": {"x": {"queues": ["a b"]}}}},
            'worker.pools.x.queues: "a b" is no value of a label',
        ),
        (by("keda") | {"prometheus": {"enabled": False}}, "autoscaler.prometheusUrl: is required"),
    ],
)
def test_what_they_could_not_do_is_refused(helm, values, words):
    assert words in helm.refusal(values)


@pytest.mark.behaviour("C30")
def test_the_adapters_rules_in_the_documentation_serve_what_an_hpa_asks_for(helm):
    (block,) = (b.text for b in blocks(PAGE) if b.info == "yaml" and b.text.startswith("rules:"))
    rules = {rule["seriesQuery"]: rule["metricsQuery"] for rule in yaml.safe_load(block)["rules"]["external"]}
    for mode in ("advise", "off"):
        metric = hpa(helm.render(by("hpa", mode)))["metrics"][0]["external"]["metric"]
        labels = [*metric["selector"].get("matchLabels", {})] or [
            expression["key"] for expression in metric["selector"]["matchExpressions"]
        ]
        query = rules[metric["name"]]
        assert set(re.search(r" by \((.+)\)$", query)[1].split(", ")) == set(labels)
        matchers = ",".join(f'{label}="x"' for label in labels)
        filled = query.replace("<<.Series>>", metric["name"]).replace("<<.LabelMatchers>>", matchers)
        promql_parser.parse(filled)
