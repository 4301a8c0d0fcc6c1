"""Values: all of them documented, checked and used; wrong ones are refused with a word that helps."""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
import yaml

from autoscaler.config import Autoscale, Pool
from docs.values import keys as explained_keys
from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, SUBCHARTS, HelmError

FOLDERS = {"": CHART, **{name: CHART / "charts" / name for name in SUBCHARTS}}
# maps whose keys are the user's
OPEN = {"gateway.catalogue", "worker.pools"}


def values_of(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDERS[name] / "values.yaml").read_text())


def schema_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDERS[name] / "values.schema.json").read_text())


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return resolved(root["definitions"][schema["$ref"].rpartition("/")[2]], root)
    if "allOf" in schema:
        return resolved(schema["allOf"][0], root)
    return schema


def keys(
    schema: dict[str, Any], root: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that a schema knows, by its path."""
    for name, below in resolved(schema, root).get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here, resolved(below, root)
        if here not in OPEN:
            yield from keys(below, root, here)


def leaves(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value and here not in OPEN:
            yield from leaves(value, here)
        else:
            yield here, value


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.behaviour("C3")
def test_every_map_of_a_schema_is_closed(name):
    root = schema_of(name)

    def check(schema: Any, where: str) -> None:
        if isinstance(schema, list):
            for part in schema:
                check(part, where)
        if not isinstance(schema, dict):
            return
        # the keys of a subchart are closed here by their names, and in its own schema by all below
        if "properties" in schema and "type" in schema and "propertyNames" not in schema:
            assert schema.get("additionalProperties") is False, where
        for key, part in schema.items():
            check(part, f"{where}/{key}")

    check(root, name)


@pytest.mark.parametrize("name", SUBCHARTS)
def test_the_chart_knows_the_keys_of_its_subcharts(name):
    named = schema_of("")["properties"][name]["propertyNames"]["enum"]
    assert set(named) == set(schema_of(name)["properties"])


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.behaviour("C3")
def test_every_key_of_the_schema_has_a_default_and_no_other_key_has(name):
    root = schema_of(name)
    known = {
        path
        for path, schema in keys(root, root)
        if "properties" not in schema and not path.endswith(("requests", "limits"))
        if not schema.get("deprecated")
    }
    known = {path for path in known if not re.search(r"(requests|limits)\.ephemeral-storage$", path)}
    given = {path for path, _ in leaves(values_of(name))}
    # what the chart around a subchart says of it
    around = {"enabled", "external", "ingress"} if name else set()
    assert given == known - around


def required(schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
    """The keys that a schema asks for, with those of the schemas that it refers to."""
    parts = [root["definitions"][schema["$ref"].rpartition("/")[2]]] if "$ref" in schema else []
    parts += schema.get("allOf", [])
    return {*schema.get("required", []), *(key for part in parts for key in required(part, root))}


def maps(
    values: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str = ""
) -> Iterator[Any]:
    """Every map of values whose keys are the chart's, with its schema; amounts may be left out."""
    yield path, values, schema
    for name, value in values.items():
        here = f"{path}.{name}".lstrip(".")
        if isinstance(value, dict) and value and here not in OPEN and name != "resources":
            yield from maps(value, resolved(schema, root)["properties"][name], root, here)


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize("name", FOLDERS)
def test_every_key_with_a_default_is_asked_for_since_one_that_is_left_empty_has_none(name):
    """Helm takes the default of `enabled:` away, and what is not there counts as false, or as everybody."""
    root = schema_of(name)
    for path, values, schema in maps(values_of(name), root, root):
        given = {key for key, value in values.items() if value is not None}
        assert required(schema, root) == given, path


@pytest.mark.behaviour("C5")
@pytest.mark.parametrize("name", FOLDERS)
def test_every_key_is_explained(name):
    found = explained_keys(FOLDERS[name] / "values.yaml")
    explained = {key.path for key in found if key.default or key.path in OPEN}
    # one comment tells of all that an image or resources have
    asked = {re.sub(r"((^|\.)(image|resources))\..*", r"\1", path) for path, _ in leaves(values_of(name))}
    assert asked - explained == set()


# other values of keys whose values must look like something
OTHERS: dict[str, Any] = {
    "gateway.catalogue": {"app.task": {"queue": "default"}},
    "gateway.extraEnv": [{"name": "A", "value": "b"}],
    "worker.extraEnv": [{"name": "A", "value": "b"}],
    "autoscaler.extraEnv": [{"name": "A", "value": "b"}],
    "flower.extraEnv": [{"name": "A", "value": "b"}],
    "secrets.onMissing": "fail",
    "worker.poolType": "threads",
    "worker.profile": "fast",
    "worker.packing": True,
    "worker.autoscale.scaler": "keda",
    "worker.autoscale.policy": "threshold",
    "worker.autoscale.sloQuantile": 0.5,
    "worker.autoscale.downWindowSeconds": 90,
    "worker.extraEnvFrom": [{"secretRef": {"name": "own"}}],
    "worker.extraVolumes": [{"name": "v", "emptyDir": {}}],
    "worker.extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
    "autoscaler.mode": "dryRun",
    "rabbitmq.replicas": 3,
    "worker.pools": {"more": {"queues": ["more"]}},
    "worker.terminationGracePeriodSeconds": 9999,
    "prometheus.retention": "9d",
    "prometheus.retentionSize": "9GB",
    "flower.urlPrefix": "/f",
    "autoscaler.prometheusUrl": "http://p",
    "grafana.prometheusUrl": "http://p",
    "rabbitmq.external.managementUrl": "http://b",
    "rabbitmq.external.metricsUrl": "http://b",
    "prometheus.extraScrapeConfigs": [{"job_name": "mine"}],
    "prometheus.alertmanagers": ["a:9093"],
    "monitoring.mode": "operator",
    "monitoring.runbookUrl": "https://wiki.example/runbook",
    "rabbitmq.external.port": 5673,
    "networkPolicy.dnsPorts": [5353],
    "networkPolicy.apiServerPorts": [443],
}
ISSUER = {"certManager": {"issuerRef": {"name": "ca"}}}


def other(path: str, value: Any) -> Any:
    """Another value of the same kind."""
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if value in (0, 1) or value > 1 else value + 0.1
    if path.startswith("networkPolicy.extraEgress."):
        return [{"ports": [{"port": 9999}]}]
    if path.startswith("networkPolicy."):
        return [{"podSelector": {}}]
    if path.endswith(".tolerations"):
        return [{"operator": "Exists"}]
    if isinstance(value, list):
        return ["other"]
    if isinstance(value, dict):
        return {"nodeAffinity": {}} if path.endswith(".affinity") else {"other": "other"}
    ends = {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always", "logLevel": "DEBUG"}
    ends |= dict.fromkeys(("cpu", "memory", "size"), "999Mi") | {"maxUnavailable": "9%"}
    return ends.get(path.rpartition(".")[2], "other")


@pytest.mark.behaviour("C5")
@pytest.mark.parametrize("top", values_of(""))
def test_every_value_changes_what_is_rendered(helm, top):
    paths = dict(leaves(values_of("")))
    for name in SUBCHARTS:
        paths |= {f"{name}.{path}": value for path, value in leaves(values_of(name)) if "global" not in path}

    def base(path: str) -> Mapping[str, Any]:
        """Values with which the key has something to say."""
        if found := re.match(r"(\w+)\.(ingress|tls)\.", path):
            on = {"enabled": path.count(".") > 2 or not path.endswith("enabled"), "host": "h"}
            on["tls"] = {"enabled": not path.endswith("tls.enabled")}
            component, key = found.groups()
            return ISSUER | {component: {key: on if key == "ingress" else on["tls"]}}
        if path.startswith("certManager."):
            return CASES["tls"]
        if path == "secrets.onMissing":
            return {"gateway": {"auth": {"apiKey": ""}}}
        if path.endswith(".caSecret"):
            return CASES["external tls"]
        if path == "monitoring.mode":
            return CASES["no monitoring"]
        if path == "rabbitmq.external.metricsUrl":
            return CASES["external broker"]
        if ".external." in path or path.startswith("networkPolicy.servers."):
            return CASES["external"]
        if path in ("networkPolicy.clients.metrics", "monitoring.labels"):
            return CASES["operator"]
        if path.startswith("demo.") and path != "demo.enabled":
            return {"demo": {"enabled": True}}
        if path == "worker.replicas":
            return {"autoscaler": {"enabled": False}}
        return {"prometheus": {"persistence": {"enabled": path != "prometheus.persistence.enabled"}}}

    def changes(path: str) -> bool:
        given = (GIVEN, base(path))
        try:
            return helm.render(*given, nested(path, other(path, paths[path]))) != helm.render(*given)
        except HelmError as error:  # a store that is neither here nor elsewhere
            said = "is required where" if path.endswith(".enabled") else "secrets.onMissing: is fail"
            return said in str(error)

    asked = sorted(path for path in paths if path.partition(".")[0] == top)
    with ThreadPoolExecutor(4) as pool:
        assert [path for path, works in zip(asked, pool.map(changes, asked), strict=True) if not works] == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("gateway.replica", 2, "additional properties 'replica' not allowed"),
        ("gateway.replicas", "2", "at '/gateway/replicas': got string, want integer"),
        ("wroker", {}, "additional properties 'wroker' not allowed"),
        ("worker.pools.fast", {"queus": ["fast"]}, "additional properties 'queus' not allowed"),
        ("worker.pools.fast", {"concurrency": 2}, "missing property 'queues'"),
        ("worker.pools.Fast", {"queues": ["fast"]}, "'Fast' does not match pattern"),
        ("worker.pools.default.queues", ["a", "a"], "at '/worker/pools/default/queues'"),
        ("worker.pools.default.queues", ["gw.a"], 'worker.pools.default.queues: "gw.a" holds no tasks'),
        (
            "worker.pools.default.autoscale.minWorkers",
            11,
            "minWorkers: 11 must not be above maxWorkers, which is 10",
        ),
        ("worker.autoscale.downThreshold", 1, "downThreshold: 1 must be below upThreshold, which is 1"),
        ("worker.autoscale.metricMaxAgeSeconds", 5, "must be above autoscaler.tickSeconds, which is 5"),
        ("worker.autoscale.policy", "magic", "at '/worker/autoscale/policy'"),
        ("worker.autoscale.sloSeconds", 0, "at '/worker/autoscale/sloSeconds'"),
        ("worker.autoscale.sloQuantile", 0, "at '/worker/autoscale/sloQuantile'"),
        ("worker.autoscale.sloQuantile", 1, "at '/worker/autoscale/sloQuantile'"),
        (
            "worker.pools.default.autoscale.sloQuantile",
            95,
            "at '/worker/pools/default/autoscale/sloQuantile'",
        ),
        ("worker.autoscale.expectedTaskSeconds", -1, "at '/worker/autoscale/expectedTaskSeconds'"),
        ("worker.autoscale.downWindowSeconds", -1, "at '/worker/autoscale/downWindowSeconds'"),
        ("worker.terminationGracePeriodSeconds", 3629, "must be at least 30 above taskTimeLimitSeconds"),
        (
            "worker.taskTimeLimitSeconds",
            7200,
            "rabbitmq.consumerTimeoutSeconds: 7200 must be at least 60 above",
        ),
        (
            "worker.pools.default",
            {"poolType": "threads", "maxTasksPerChild": 5},
            "worker.pools.default.maxTasksPerChild: must be 0 with poolType threads",
        ),
        (
            "worker.pools.default",
            {"poolType": "gevent", "profile": "fast"},
            "worker.pools.default.profile: must be durable with poolType gevent",
        ),
        ("worker.image.digest", "sha256:12", "at '/worker/image/digest'"),
        ("flower.auth.username", "a:b", "flower.auth.username: must not hold a colon"),
        ("flower.urlPrefix", "flower/", "at '/flower/urlPrefix'"),
        ("rabbitmq.enabled", False, "rabbitmq.external.host: is required where rabbitmq.enabled is false"),
        ("rabbitmq.persistence.siez", "1Gi", "additional properties 'siez' not allowed"),
        ("rabbitmq.persistance", {}, "invalid propertyName 'persistance'"),
        ("rabbitmq.resources.limits.memory", None, "missing property 'memory'"),
        ("rabbitmq.resources.limits.memory", "800m", "at '/resources/limits/memory'"),
        ("worker.resources.requests.memory", "800m", "at '/worker/resources/requests/memory'"),
        ("gateway.auth.enabled", None, "at '/gateway/auth': missing property 'enabled'"),
        ("networkPolicy.enabled", None, "at '/networkPolicy': missing property 'enabled'"),
        ("networkPolicy.dnsPorts", None, "at '/networkPolicy': missing property 'dnsPorts'"),
        ("autoscaler.mode", None, "at '/autoscaler': missing property 'mode'"),
        ("worker.autoscale.minWorkers", None, "at '/worker/autoscale': missing property 'minWorkers'"),
        ("worker.autoscale.sloSeconds", None, "at '/worker/autoscale': missing property 'sloSeconds'"),
        ("mysql.auth.username", None, "at '/auth': missing property 'username'"),
        ("rabbitmq.enabled", None, "at '/rabbitmq/enabled': got null, want boolean"),
        ("mysql.auth.username", "root", "mysql.auth.username: must not be root"),
        ("mysql.auth.username", "exporter", "mysql.auth.username: must not be exporter"),
        ("rabbitmq.auth.username", "guest", "rabbitmq.auth.username: must not be guest"),
        ("rabbitmq.external.host", "a:5", "at '/rabbitmq/external/host'"),
        ("mysql.external.host", "mysql://a", "at '/mysql/external/host'"),
        ("rabbitmq.external.hots", "x", "additional properties 'hots' not allowed"),
        ("mysql.exporter.image.tagg", "x", "additional properties 'tagg' not allowed"),
        ("mysql.database", "a b", "at '/database'"),
        ("prometheus.retention", "a week", "at '/retention'"),
        (
            "prometheus.enabled",
            False,
            "autoscaler.prometheusUrl: is required where prometheus.enabled is false",
        ),
        ("grafana.auth.user", "x", "additional properties 'user' not allowed"),
        ("global.imageRegisty", "x", "additional properties 'imageRegisty' not allowed"),
        ("rabbitmq.tls.enabled", True, "rabbitmq.tls.existingSecret: is required where rabbitmq.tls.enabled"),
        ("mysql.tls.enabled", True, "mysql.tls.existingSecret: is required where mysql.tls.enabled is true"),
        ("mysql.tls.secret", "x", "additional properties 'secret' not allowed"),
        ("mysql.external.tls.caSecret", "x", "mysql.external.tls.caSecret: is of no use unless"),
        ("rabbitmq.external.tls", True, "at '/rabbitmq/external/tls': got boolean, want object"),
        ("rabbitmq.external.port", 0, "at '/rabbitmq/external/port'"),
        ("certManager.issuer", "x", "additional properties 'issuer' not allowed"),
        ("certManager.issuerRef.kind", "", "at '/certManager/issuerRef/kind'"),
        (
            "gateway.ingress",
            {"enabled": True, "tls": {"enabled": True}},
            "gateway.ingress.host: is required where gateway.ingress.tls.enabled is true",
        ),
        (
            "flower.ingress",
            {"enabled": True, "host": "h", "tls": {"enabled": True}},
            "flower.ingress.tls.secretName: is required where flower.ingress.tls.enabled is true, unless",
        ),
        ("grafana.ingress.host", "https://h", "at '/grafana/ingress/host'"),
        ("gateway.ingress.hosts", ["h"], "additional properties 'hosts' not allowed"),
    ],
)
@pytest.mark.behaviour("C4")
def test_wrong_values_are_refused_by_name(helm, path, value, says):
    assert says in helm.refusal(nested(path, value))


@pytest.mark.behaviour("C28")
@pytest.mark.parametrize("host", ["broker", "broker.example.com.", "192.0.2.1", "[2001:db8::1]"])
def test_an_external_store_has_a_name_or_an_address(helm, host):
    objects = helm.render(GIVEN, CASES["external"], nested("mysql.external.host", host))
    assert f"mysql://{host}:3306/" in str([*objects])


@pytest.mark.parametrize("pool", ["default", "more"])
def test_null_takes_a_limit_away_from_all_pools_or_from_one(each_helm, pool):
    def limits(worker: dict[str, Any]) -> dict[str, Any]:
        queues = {"worker": {"pools": {pool: {"queues": [pool]}}}}
        objects = each_helm.render(GIVEN, queues, {"worker": worker})
        return dict(objects.container(f"kit-worker-{pool}/worker")["resources"]["limits"])

    none = {"resources": {"limits": {"cpu": None}}}
    assert limits(none) == limits({"pools": {pool: none}}) == {"memory": "512Mi"}


@pytest.mark.parametrize("release", ["my.kit", "1kit"])
def test_a_release_that_no_service_could_be_named_by_is_refused(helm, release):
    assert "must begin with a letter and have no dots" in helm.refusal(release=release)


def test_what_the_chart_says_of_autoscaling_is_what_the_autoscaler_does_without_being_told():
    worker = values_of("")["worker"]
    autoscale = {field.encode_name: field.default for field in msgspec.structs.fields(Autoscale)}
    assert worker["autoscale"] == autoscale | {"enabled": True, "scaler": "autoscaler"}
    pool = {field.encode_name: field.default for field in msgspec.structs.fields(Pool)}
    assert (worker["concurrency"], worker["poolType"]) == (pool["concurrency"], pool["poolType"])


def test_a_broker_that_the_bundled_prometheus_does_not_know_needs_one_that_does(helm):
    external = {"rabbitmq": CASES["external"]["rabbitmq"]}
    assert "rabbitmq.external.metricsUrl: is required" in helm.refusal(GIVEN, external)
    assert helm.render(GIVEN, external, {"autoscaler": {"enabled": False}})
