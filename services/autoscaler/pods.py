"""What a Deployment and its pods come to: who works, who goes, and whether the number may fall now."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.model import Action, Answer, Fleet, Obstacle, Reason, Worker

PATIENCE_SECONDS = (
    120.0  # a new node takes as long to come; until then a pod without room is no reason to stop
)
SETTLED_SECONDS = 15.0  # by then Kubernetes has seen what a probe says since a worker was told to drain


@dataclass(frozen=True, slots=True)
class Deployment:
    """What is told of a Deployment."""

    name: str
    uid: str
    version: str  # of the object, to be sure that nobody else changes it meanwhile
    replicas: int
    selector: Mapping[str, str]
    rollout: str = ""  # what is still to come of a rollout; empty: nothing
    failure: str = ""  # why pods cannot even be made, as when a quota is used up
    template: int = 0  # tells one template of its pods from another


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that counts as a replica: it neither terminates nor has ended."""

    name: str
    created: float  # unix seconds
    owner: str  # its ReplicaSet
    address: str = ""
    ready: bool = False  # as Kubernetes believes, seconds after the worker said so
    running: bool = False  # a container of it runs
    trouble: tuple[Reason, str] | None = None  # why it does not come up

    @property
    def reachable(self) -> bool:
        """Whether its worker can be asked."""
        return self.running and bool(self.address)


@dataclass(frozen=True, slots=True)
class View:
    """One Deployment at one moment; `told` are the seconds since each worker was told to drain."""

    deployment: Deployment
    pods: tuple[Pod, ...]
    answers: Mapping[str, Answer] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)

    def answer(self, pod: Pod) -> Answer:
        """What the worker says; one that says nothing is not ready, and not empty either."""
        return self.answers.get(pod.name, Answer())

    @property
    def victims(self) -> tuple[Pod, ...]:
        """The pods that shall go: their worker says that it drains, or was told to."""
        return tuple(pod for pod in self.pods if pod.name in self.told or self.answer(pod).draining)

    @property
    def empty(self) -> frozenset[str]:
        """The victims that hold no task and are not ready; a pod in which nothing runs holds none."""
        return frozenset(
            pod.name
            for pod in self.victims
            if not pod.ready and (self.answer(pod).drained or not pod.running)
        )


def fleet(view: View, now: float, scaler: str = "") -> Fleet:
    """See the Deployment as workers. `now` is in unix seconds, `scaler` what else scales it.

    Those that serve and those that drain are together as many as the replicas that are wanted: one without
    a pod is a worker on its way, and a pod too many is one that is about to go.
    """
    replicas, victims = view.deployment.replicas, {pod.name for pod in view.victims}
    next_to_go = sorted(view.pods, key=lambda pod: (pod.name not in victims, pod.ready, -pod.created))
    staying = next_to_go[max(0, len(view.pods) - replicas) :]
    workers = [
        Worker(
            pod.name,
            pod.created,
            ready=view.answer(pod).ready,
            active=view.answer(pod).active,
            reserved=view.answer(pod).reserved,
            draining_seconds=view.told.get(pod.name, 0.0) if pod.name in victims else None,
            slots=view.answer(pod).slots,
        )
        for pod in sorted(staying, key=lambda pod: (pod.created, pod.name))
    ]
    workers += [Worker(f"{view.deployment.name} #{n}", now) for n in range(len(view.pods) + 1, replicas + 1)]
    seen = Fleet(tuple(workers))
    return replace(seen, obstacles=tuple(_obstacles(view, now, scaler, draining=bool(seen.draining))))


def _obstacles(view: View, now: float, scaler: str, *, draining: bool) -> Iterator[Obstacle]:
    if scaler:
        words = f"{scaler} scales {view.deployment.name} too"
        yield Obstacle(Reason.PAUSED, words, frozenset(Action))
    rollout, failure = view.deployment.rollout, view.deployment.failure
    if rollout:
        bars = {Action.DOWN, Action.HOLD} if draining else {Action.DOWN}
        yield Obstacle(Reason.VICTIMS_AMBIGUOUS, rollout, frozenset(bars))
    elif draining and isinstance(why_not := removable(view, frozenset()), str):
        yield Obstacle(Reason.VICTIMS_AMBIGUOUS, why_not, frozenset({Action.HOLD}))
    if failure:
        yield Obstacle(Reason.UNSCHEDULABLE, failure, frozenset({Action.HOLD, Action.UP}))
    if troubled := [pod for pod in view.pods if pod.trouble]:
        last = max(troubled, key=lambda pod: pod.created)
        reason, words = last.trouble or (Reason.NOT_STARTING, "")
        # While what was asked for last does not come, more would not either.
        newest = all(pod.created <= last.created for pod in view.pods)
        stuck = newest and now - last.created > PATIENCE_SECONDS
        more = f" ({len(troubled)} pods do not)" if len(troubled) > 1 else ""
        words = f"{last.name} does not come up{more}: {words}"
        yield Obstacle(reason, words, frozenset({Action.HOLD, Action.UP} if stuck else {Action.HOLD}))


def removable(view: View, empty_before: Collection[str], unborn: int = 0) -> int | str:
    """Tell by how many the number may fall now, or in words why it must not.

    A ReplicaSet removes pods that are not ready before ready ones. So the number may fall by the count of
    the victims that are not ready, if no other pod is so, and they are empty now and at the tick before. A
    victim that still ends its tasks has to stay ready: one that may not, as older workers do not, is waited
    for. `unborn` is how many replicas without a pod are to go as well.
    """
    victims, deployment = view.victims, view.deployment
    if not victims and not unborn:
        return 0
    if deployment.rollout:
        return deployment.rollout
    if len({pod.owner for pod in view.pods}) > 1:
        return f"the pods of {deployment.name} are of more than one ReplicaSet"
    if (missing := deployment.replicas - len(view.pods)) != unborn:
        return f"{deployment.name} has {len(view.pods)} pods for {deployment.replicas} replicas" + (
            f", of which {unborn} shall go" if unborn and missing > unborn else ""
        )
    going = {pod.name for pod in victims}
    for pod in view.pods:
        if pod.name not in going and not (pod.ready and view.answer(pod).ready):
            said = not pod.ready or pod.name in view.answers
            return f"{pod.name} {'is not ready' if said else 'does not answer'}, and was not told to drain"
    if any(pod.ready and not _stays_ready(view, pod) for pod in victims):
        return 0
    down = [pod.name for pod in victims if not pod.ready]
    if any(name not in view.empty or name not in empty_before for name in down):
        return 0
    return len(down) + unborn


def _stays_ready(view: View, pod: Pod) -> bool:
    """Whether a victim that is ready has shown that it is so until it is empty."""
    answer = view.answer(pod)
    return answer.drained or (answer.draining and view.told.get(pod.name, 0.0) >= SETTLED_SECONDS)
