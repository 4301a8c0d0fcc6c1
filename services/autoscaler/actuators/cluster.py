"""The few calls to the Kubernetes API that scaling takes, and what they answer in our own words."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx2
import lightkube
import msgspec
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.core_v1 import ContainerStatus, EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources import apps_v1, autoscaling_v2, coordination_v1, core_v1
from lightkube.types import PatchType
from prometheus_client import CollectorRegistry, Counter

from autoscaler.actuators import ActuationError
from autoscaler.model import Reason
from autoscaler.pods import Deployment, Pod

COMPONENT = "celery-kit-autoscaler"
NOT_FOUND, CONFLICT = 404, 409
PAGE = 100  # pods of some 10 KB each: a thousand at once would not fit our memory

# Why a container waits when all is well.
_STARTING = {None, "", "ContainerCreating", "PodInitializing"}
_ScaledObject = create_namespaced_resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")

logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells every request


class ApiError(ActuationError):
    """The API refused, or did not answer: then `code` is 0."""

    def __init__(self, words: str, code: int = 0) -> None:
        super().__init__(words)
        self.code = code


class Cluster:
    """One namespace of the cluster in which we run, or that KUBECONFIG names.

    Every call is over within the timeout, and raises ApiError if it failed.
    """

    def __init__(self, namespace: str, timeout_seconds: float, registry: CollectorRegistry) -> None:
        self._namespace = namespace
        self._timeout = timeout_seconds
        self._errors = Counter(
            "autoscaler_k8s_errors",
            "Calls to the Kubernetes API that failed; code 0: no answer",
            ["verb", "code"],
            registry=registry,
        )
        try:
            # Also where a proxy is set: the API is next door.
            self._client = lightkube.AsyncClient(
                KubeConfig.from_env(), namespace=namespace, field_manager=COMPONENT, trust_env=False
            )
        except (ConfigError, OSError, LookupError, ValueError) as error:
            raise ActuationError(
                f"actuator.kind: kubernetes needs the service account of a pod, or KUBECONFIG: {error}"
            ) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.close()

    async def deployment(self, name: str) -> Deployment:
        """Read a Deployment."""
        async with self._call("get", f"read Deployment {name}"):
            return _deployment(await self._client.get(apps_v1.Deployment, name))

    async def pods(self, selector: Mapping[str, str]) -> tuple[Pod, ...]:
        """List the pods that count as replicas."""
        async with self._call("list", "list pods"):
            listed = self._client.list(core_v1.Pod, labels=dict(selector), chunk_size=PAGE)
            return tuple([_pod(pod) async for pod in listed if _counts(pod)])

    async def scale(self, name: str) -> tuple[int, str]:
        """Read how many replicas a Deployment shall have, and the version that says so."""
        async with self._call("get", f"read the scale of {name}"):
            scale = await self._client.get(apps_v1.Deployment.Scale, name)
        spec, meta = scale.spec, scale.metadata
        return (spec.replicas or 0 if spec else 0), (meta.resourceVersion or "" if meta else "")

    async def set_scale(self, name: str, replicas: int, version: str) -> None:
        """Set how many replicas a Deployment shall have, if it is still of that version."""
        patch = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        async with self._call("patch", f"scale {name}"):
            await self._client.patch(apps_v1.Deployment.Scale, name, patch, patch_type=PatchType.MERGE)

    async def scalers(self) -> Mapping[str, str]:
        """Find what else scales, by the name of the Deployment that it scales."""
        found: dict[str, str] = {}
        async with self._call("list", "list HorizontalPodAutoscalers"):
            async for hpa in self._client.list(autoscaling_v2.HorizontalPodAutoscaler):
                if hpa.spec and hpa.spec.scaleTargetRef.kind == "Deployment" and hpa.metadata:
                    found[hpa.spec.scaleTargetRef.name] = f"HorizontalPodAutoscaler {hpa.metadata.name}"
        # without KEDA there is no such kind
        async with self._call("list", "list ScaledObjects", may_miss=True):
            async for scaled in self._client.list(_ScaledObject):
                target = (scaled.get("spec") or {}).get("scaleTargetRef") or {}
                if target.get("kind", "Deployment") == "Deployment" and scaled.metadata:
                    found[target.get("name", "")] = f"ScaledObject {scaled.metadata.name}"
        return found

    async def lease(self, name: str) -> coordination_v1.Lease | None:
        """Read a Lease, if there is one."""
        found = None
        async with self._call("get", f"read Lease {name}", may_miss=True):
            found = await self._client.get(coordination_v1.Lease, name)
        return found  # noqa: RET504  # a 404 leaves it None

    async def write_lease(self, lease: coordination_v1.Lease) -> None:
        """Make a Lease, or replace it if it is still of the version that it was read in."""
        meta = lease.metadata or ObjectMeta()
        if meta.resourceVersion is None:
            async with self._call("create", f"make Lease {meta.name}"):
                await self._client.create(lease)
        else:
            async with self._call("update", f"write Lease {meta.name}"):
                await self._client.replace(lease)

    async def event(self, about: Deployment, name: str, kind: str, reason: str, words: str) -> None:
        """Make an Event, which `kubectl describe` shows; `kind` is Normal or Warning."""
        now = datetime.now(UTC)
        event = core_v1.Event(
            metadata=ObjectMeta(name=name, namespace=self._namespace),
            involvedObject=ObjectReference(
                apiVersion="apps/v1",
                kind="Deployment",
                name=about.name,
                namespace=self._namespace,
                uid=about.uid,
            ),
            type=kind,
            reason=reason,
            message=words[:1024],  # the API takes no more
            source=EventSource(component=COMPONENT),
            reportingComponent=COMPONENT,
            firstTimestamp=now,
            lastTimestamp=now,
            count=1,
        )
        async with self._call("create", "make an Event"):
            await self._client.create(event)

    @asynccontextmanager
    async def _call(self, verb: str, what: str, *, may_miss: bool = False) -> AsyncIterator[None]:
        try:
            async with self._told_plainly(what):
                yield
        except ApiError as error:
            if may_miss and error.code == NOT_FOUND:
                return
            self._errors.labels(verb, error.code).inc()
            raise

    @asynccontextmanager
    async def _told_plainly(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except lightkube.ApiError as error:
            code = error.response.status_code
            raise ApiError(
                f"Kubernetes: cannot {what}: {code} {error.status.message or error.status.reason or ''}", code
            ) from error
        except httpx2.HTTPStatusError as error:
            code = error.response.status_code
            raise ApiError(f"Kubernetes: cannot {what}: HTTP {code}", code) from error
        except TimeoutError as error:
            raise ApiError(f"Kubernetes: cannot {what}: no answer in {self._timeout:g} s") from error
        except (httpx2.HTTPError, ConfigError, OSError) as error:
            raise ApiError(f"Kubernetes: cannot {what}: {error or type(error).__name__}") from error
        except (msgspec.MsgspecError, LookupError, ValueError) as error:
            raise ApiError(f"Kubernetes: cannot {what}: the answer is not understood: {error}") from error


def _deployment(found: apps_v1.Deployment) -> Deployment:
    meta, spec, status = found.metadata, found.spec, found.status
    if meta is None or spec is None:
        raise ValueError("a Deployment without metadata or spec")
    name, replicas = meta.name or "", 1 if spec.replicas is None else spec.replicas
    rollout = failure = ""
    updated = status.updatedReplicas or 0 if status else 0
    if status is None or (status.observedGeneration or 0) < (meta.generation or 0):
        rollout = f"the last change of {name} is not carried out yet"
    elif updated < (status.replicas or 0):
        rollout = f"a rollout of {name} is in progress: {updated} of {status.replicas} pods are new"
    for condition in status.conditions or [] if status else []:
        if condition.type == "ReplicaFailure" and condition.status == "True":
            failure = f"{name} cannot make a pod: {condition.message}"
    selector = dict(spec.selector.matchLabels or {})
    return Deployment(
        name,
        meta.uid or "",
        meta.resourceVersion or "",
        replicas,
        selector,
        rollout,
        failure,
        hash(repr(spec.template)),
    )


def _counts(pod: core_v1.Pod) -> bool:
    phase = pod.status.phase if pod.status else None
    ends = pod.metadata is None or pod.metadata.deletionTimestamp is not None
    return not ends and phase not in {"Succeeded", "Failed"}


def _pod(found: core_v1.Pod) -> Pod:
    meta, status = found.metadata, found.status
    if meta is None or status is None or meta.creationTimestamp is None:
        raise ValueError("a pod without metadata or status")
    owners = [owner.uid for owner in meta.ownerReferences or [] if owner.controller]
    conditions = {condition.type: condition for condition in status.conditions or []}
    ready = "Ready" in conditions and conditions["Ready"].status == "True"
    trouble = None
    scheduled = conditions.get("PodScheduled")
    if scheduled and scheduled.status == "False":
        trouble = (Reason.UNSCHEDULABLE, scheduled.message or scheduled.reason or "it is not scheduled")
    elif not ready:
        for container in (*(status.initContainerStatuses or ()), *(status.containerStatuses or ())):
            if reason := _waits(container):
                trouble = (Reason.NOT_STARTING, reason)
    return Pod(
        name=meta.name or "",
        created=meta.creationTimestamp.timestamp(),
        owner=owners[0] if owners else "",
        address=status.podIP or "",
        ready=ready,
        running=any(c.state and c.state.running for c in status.containerStatuses or ()),
        trouble=trouble,
    )


def _waits(container: ContainerStatus) -> str:
    waiting = container.state.waiting if container.state else None
    if waiting is None or waiting.reason in _STARTING:
        return ""
    return f"{container.name} waits with {waiting.reason}"
