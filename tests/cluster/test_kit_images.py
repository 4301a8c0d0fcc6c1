"""The kit's own images, each as a restricted pod."""

from subprocess import CalledProcessError

import pytest

from tests.cluster import images
from tests.cluster.pods import Pods, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=images.COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pod(pods: Pods, component: str) -> str:
    image = f"celery-kit/{component}:{images.version()}"
    return pods.start(image, 10001, command=["python", "-c", "import signal; signal.pause()"])


def has(pods: Pods, pod: str, module: str) -> bool:
    """Whether a module can be imported there."""
    found = f"import importlib.util as u; print(bool(u.find_spec({module!r})))"
    return pods.execute(pod, "python", "-c", found).strip() == "True"


@pytest.mark.behaviour("C12", "S25")
def test_runs_as_10001_who_has_a_name(pods: Pods, pod: str) -> None:
    assert pods.execute(pod, "id").startswith("uid=10001(celery-kit) gid=10001(celery-kit)")


def test_starts_from_bytecode_that_fits_its_sources(pods: Pods, pod: str) -> None:
    told = pods.execute(pod, "sh", "-c", "python -v -c 'import tornado.web, celerykit.settings' 2>&1")
    for module in ("tornado.web", "celerykit.settings"):
        assert f"matches /app/lib/python3.13/site-packages/{module.replace('.', '/')}.py" in told


@pytest.mark.behaviour("S25")
def test_carries_nothing_that_installs_or_builds(pods: Pods, pod: str) -> None:
    assert not has(pods, pod, "pip")
    for program in ("pip", "gcc", "make"):
        with pytest.raises(CalledProcessError):
            pods.execute(pod, program, "--version")


def test_carries_what_it_needs_and_only_that(pods: Pods, component: str, pod: str) -> None:
    assert has(pods, pod, "celery") == (component != "autoscaler")
    assert has(pods, pod, "flower") == (component == "flower")
    assert has(pods, pod, "gevent") == (component == "worker")
    assert has(pods, pod, "lightkube") == (component == "autoscaler")
    assert not has(pods, pod, "pytest")


@pytest.mark.parametrize(
    ("component", "wrong"),
    [
        ("gateway", "CELERYKIT_GATEWAY_PORT"),
        ("worker", "CELERYKIT_WORKER_CONCURRENCY"),
        ("flower", "CELERYKIT_FLOWER_BASIC_AUTH"),
        ("autoscaler", "--config"),
    ],
)
def test_starts_its_own_program_which_names_what_is_wrong(pods: Pods, component: str, wrong: str) -> None:
    settings = {
        "CELERYKIT_BROKER_URL": "amqp://a:b@127.0.0.1/%2F",
        "CELERYKIT_DATABASE_URL": "mysql://a:b@127.0.0.1/c",
    }
    image = f"celery-kit/{component}:{images.version()}"
    pod = pods.create(image, 10001, env={**settings, wrong: "x"} if wrong.isupper() else settings)
    assert eventually(lambda: wrong in pods.kubectl("logs", pod))
