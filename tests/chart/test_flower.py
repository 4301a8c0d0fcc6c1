"""Flower: behind a login, and alive without one."""

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN


@pytest.mark.parametrize(("prefix", "path"), [("", "/healthcheck"), ("/flower", "/flower/healthcheck")])
@pytest.mark.behaviour("C18")
def test_probes_ask_the_one_page_that_needs_no_login(helm, prefix, path):
    flower = helm.render(GIVEN, {"flower": {"urlPrefix": prefix}}).container("kit-flower/flower")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert flower[probe]["httpGet"] == {"path": path, "port": "http"}


@pytest.mark.behaviour("C18", "S15")
def test_there_is_always_a_login(kit):
    variables = {variable["name"]: variable for variable in kit.container("kit-flower/flower")["env"]}
    assert variables["CELERYKIT_FLOWER_BASIC_AUTH"]["value"] == "$(FLOWER_USERNAME):$(FLOWER_PASSWORD)"
    names = list(variables)
    # Kubernetes puts in only what stands before
    assert names.index("CELERYKIT_FLOWER_BASIC_AUTH") > names.index("FLOWER_PASSWORD")


@pytest.mark.behaviour("S15")
def test_flower_only_looks_on_unless_told_otherwise(kit):
    variables = kit.variables("kit-flower/flower")
    assert variables["CELERYKIT_FLOWER_READ_ONLY"] == "true"


@pytest.mark.behaviour("S8")
@pytest.mark.parametrize("read_only", [True, False])
def test_flower_has_the_databases_login_only_where_it_may_do_more_than_look(helm, read_only):
    objects = helm.render(GIVEN, CASES["tls"], {"flower": {"readOnly": read_only}})
    given = {v["name"] for v in objects.container("kit-flower/flower")["env"] if "_DATABASE_" in v["name"]}
    login = {"CELERYKIT_DATABASE_USERNAME", "CELERYKIT_DATABASE_PASSWORD", "CELERYKIT_DATABASE_CA_FILE"}
    assert given == {"CELERYKIT_DATABASE_URL"} | (set() if read_only else login)
