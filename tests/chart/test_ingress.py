"""Ingresses: off unless wanted, to the right Service, with a certificate that is given or made."""

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN

COMPONENTS = ("gateway", "flower", "grafana")


def ingress(helm, component, *values, **keys):
    on = {component: {"ingress": {"enabled": True, "host": "kit.example"} | keys}}
    return helm.render(GIVEN, on, *values).get("Ingress", f"kit-{component}")


def test_nobody_comes_in_from_outside_unless_it_is_wanted(kit):
    assert not kit.of("Ingress")


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_ingress_leads_to_the_port_of_its_service(helm, component):
    spec = ingress(helm, component)["spec"]
    (rule,) = spec["rules"]
    assert rule["host"] == "kit.example"
    (path,) = rule["http"]["paths"]
    assert path["path"] == "/"
    assert path["backend"]["service"] == {"name": f"kit-{component}", "port": {"name": "http"}}
    assert not {"tls", "ingressClassName"} & set(spec)


def test_flower_is_reached_below_its_prefix(helm):
    (rule,) = ingress(helm, "flower", {"flower": {"urlPrefix": "/flower"}})["spec"]["rules"]
    assert rule["http"]["paths"][0]["path"] == "/flower"


@pytest.mark.behaviour("S11")
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_certificate_that_is_given_is_used(helm, component):
    object_ = ingress(helm, component, CASES["default"], tls={"enabled": True, "secretName": "own"})
    assert object_["spec"]["tls"] == [{"hosts": ["kit.example"], "secretName": "own"}]
    assert "annotations" not in object_["metadata"]


@pytest.mark.behaviour("S11")
@pytest.mark.parametrize("component", COMPONENTS)
def test_cert_manager_makes_the_certificate_that_is_not_given(helm, component):
    issuer = {"certManager": {"issuerRef": {"name": "team-ca", "kind": "Issuer"}}}
    object_ = ingress(helm, component, issuer, tls={"enabled": True})
    assert object_["spec"]["tls"] == [{"hosts": ["kit.example"], "secretName": f"kit-{component}-tls"}]
    assert object_["metadata"]["annotations"] == {
        "cert-manager.io/issuer": "team-ca",
        "cert-manager.io/issuer-kind": "Issuer",
        "cert-manager.io/issuer-group": "cert-manager.io",
    }


def test_another_issuer_can_be_named_for_clients_from_outside(helm):
    public = {"cert-manager.io/cluster-issuer": "public"}
    object_ = ingress(helm, "gateway", CASES["tls"], tls={"enabled": True}, annotations=public)
    assert object_["metadata"]["annotations"] == public


def test_annotations_and_class_are_for_the_controller(helm):
    timeout = {"nginx.ingress.kubernetes.io/proxy-read-timeout": "120"}
    object_ = ingress(helm, "gateway", annotations=timeout, className="nginx", host="")
    assert object_["metadata"]["annotations"] == timeout
    assert object_["spec"]["ingressClassName"] == "nginx"
    assert "host" not in object_["spec"]["rules"][0]


@pytest.mark.parametrize("component", ["flower", "grafana"])
def test_what_is_off_has_no_ingress(helm, component):
    off = {component: {"enabled": False, "ingress": {"enabled": True}}}
    assert not helm.render(GIVEN, off).of("Ingress")
