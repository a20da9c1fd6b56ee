"""Endpoints that answer: the processes behind moto's FakeEndpoint, which stays the one store of status and counts."""

import contextlib
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from opml.localaws import procs, state
from opml.localaws.capture import Capture, summary
from opml.localaws.instances import Instance, InvocationTimedOut, Reply, StartFailed
from opml.localaws.launcher import Launcher
from opml.localaws.settings import settings

INVOCATION_SECONDS = 60.0  # a container must answer within this
SERVER_GONE = Reply(500, {}, b"The model server ended while it handled the request; it is being restarted. Its log has the reason.")

_log = logging.getLogger(__name__)
_endpoints: dict[str, "Endpoint"] = {}
on_remove: list[Callable[[str], None]] = []  # told the name of each endpoint that is deleted
held_by: list[Callable[[str, str], bool]] = []  # asked whether (endpoint, variant) must keep its name and instance type


class Busy(Exception):
    """The endpoint is being created, changed or has failed."""


class UnknownVariant(LookupError):
    """The request's target variant is not part of the endpoint."""


def find(name: str) -> "Endpoint | None":
    """The endpoint of this name, whatever its status."""
    return _endpoints.get(name)


def create(backend, fake) -> "Endpoint":
    """Register moto's new endpoint and start its instances in the background; status ``Creating`` until they answer."""
    _endpoints[fake.endpoint_name] = endpoint = Endpoint(backend, fake)
    fake.endpoint_status = "Creating"
    endpoint.deploy(fake.endpoint_config_name)
    return endpoint


def remove(name: str) -> None:
    """Forget the endpoint and end all its processes, also those that are just starting."""
    if endpoint := _endpoints.pop(name, None):
        endpoint.close()
        for tell in on_remove:
            tell(name)


def variants_of(backend, config_name: str) -> list[dict]:
    """The production variants of an endpoint configuration."""
    return backend.endpoint_configs[config_name].production_variants


def _described(variant: dict, count: int) -> dict:
    """An element of DescribeEndpoint's ProductionVariants."""
    weight = variant.get("InitialVariantWeight", 1.0)
    desired = variant.get("InitialInstanceCount", 1)
    return {
        "VariantName": variant["VariantName"],
        "CurrentInstanceCount": count, "DesiredInstanceCount": desired,
        "CurrentWeight": weight, "DesiredWeight": weight,
    }  # fmt: skip


class Endpoint:
    """The fleet of one endpoint: variant name -> instances. Every change of the fleet or of the status happens under one lock."""

    def __init__(self, backend, fake):
        self._backend, self.fake = backend, fake
        self._lock = threading.RLock()
        self._fleet: dict[str, list[Instance]] = {}
        self._launcher = Launcher(backend, fake.endpoint_name)
        self._invocations: Counter[str] = Counter()  # variant -> invocations per instance since they were last taken
        self._capture = Capture(fake.endpoint_name, {})
        self._variants: dict[str, dict] = {}  # as configured when deployed: the configuration may be deleted meanwhile
        fake.production_variants = [_described(variant, 0) for variant in variants_of(backend, fake.endpoint_config_name)]

    # ---- changes ----------------------------------------------------------------------------------------------------------------

    def deploy(self, config_name: str) -> None:
        """Start the fleet of a configuration and put it in place of the present one; on failure the present one stays."""
        variants = [dict(variant) for variant in variants_of(self._backend, config_name)]
        captured = self._backend.endpoint_configs[config_name].data_capture_config or {}
        self._background(lambda: self._replace_fleet(config_name, variants, captured))

    def update(self, config_name: str, retain: bool = False) -> None:
        """Like `deploy`, for an endpoint that serves; `Busy` if it does not. ``retain`` keeps present counts and weights."""
        self._begin_update()
        variants = [dict(variant) for variant in variants_of(self._backend, config_name)]
        captured = self._backend.endpoint_configs[config_name].data_capture_config or {}
        present = {shown["VariantName"]: shown for shown in self.fake.production_variants} if retain else {}
        for variant in variants:
            if shown := present.get(variant["VariantName"]):
                variant["InitialInstanceCount"], variant["InitialVariantWeight"] = shown["CurrentInstanceCount"], shown["CurrentWeight"]
        self._background(lambda: self._replace_fleet(config_name, variants, captured))

    def held(self, config_name: str) -> str | None:
        """The first variant that is scaled automatically and that this configuration drops or gives another instance type, or None."""
        new = {variant["VariantName"]: variant.get("InstanceType") for variant in variants_of(self._backend, config_name)}
        for name, old in self._variants.items():
            if new.get(name) != old.get("InstanceType") and any(holds(self.fake.endpoint_name, name) for holds in held_by):
                return name
        return None

    def resize(self, wanted: list[dict]) -> None:
        """Apply ``[{VariantName, DesiredInstanceCount?, DesiredWeight?}]``: desired at once, current when the processes are there."""
        self._begin_update()
        for change in wanted:
            shown = self._shown(change["VariantName"])
            shown.update({key: change[key] for key in ("DesiredInstanceCount", "DesiredWeight") if change.get(key) is not None})
        self._background(lambda: self._resize_fleet([change["VariantName"] for change in wanted]))

    def _begin_update(self) -> None:
        with self._lock:
            if self.fake.endpoint_status != "InService":
                raise Busy(self.fake.endpoint_status)
            self.fake.endpoint_status, self.fake.last_modified_time = "Updating", state.now()

    def close(self) -> None:
        """End all processes; what is starting in another thread ends too."""
        with self._lock:
            self._fleet, doomed = {}, self._launcher.close()
        self._capture.flush()
        self._launcher.stop(doomed)

    def _background(self, work: Callable[[], None]) -> None:
        threading.Thread(target=self._settle, args=(work,), daemon=True).start()

    def _settle(self, work: Callable[[], None]) -> None:
        """Do the work; write the status that follows from it."""
        reason = None
        try:
            work()
        except StartFailed as error:
            reason = str(error)
        except Exception as error:
            _log.exception("endpoint %s", self.fake.endpoint_name)
            reason = f"The local AWS failed: {type(error).__name__}: {error}"
        with self._lock:
            self.fake.failure_reason, self.fake.last_modified_time = reason, state.now()
            self.fake.endpoint_status = "InService" if self._fleet else "Failed"

    def _replace_fleet(self, config_name: str, variants: list[dict], captured: dict) -> None:
        fleet = self._launcher.launch([(variant, variant.get("InitialInstanceCount", 1)) for variant in variants])
        with self._lock:
            old = [instance for group in self._fleet.values() for instance in group]
            self._fleet, self.fake.endpoint_config_name = fleet, config_name
            self._variants = {variant["VariantName"]: variant for variant in variants}
            before, self._capture = self._capture, Capture(self.fake.endpoint_name, captured)
            self.fake.data_capture_config = summary(captured)
            self.fake.production_variants = [_described(variant, len(fleet[variant["VariantName"]])) for variant in variants]
        before.flush()
        self._launcher.retire(old)

    def _resize_fleet(self, names: list[str]) -> None:
        try:
            for name in names:
                self._resize_variant(self._shown(name))
        except StartFailed:
            for name in names:
                self._shown(name)["DesiredInstanceCount"] = len(self._fleet.get(name, ()))
            raise

    def _resize_variant(self, shown: dict) -> None:
        name, wanted = shown["VariantName"], shown["DesiredInstanceCount"]
        shown["CurrentWeight"] = shown["DesiredWeight"]
        more = wanted - len(self._fleet.get(name, ()))
        new = self._launcher.launch([(self._variants[name], more)])[name] if more > 0 else []
        with self._lock:
            group = [*self._fleet.get(name, ()), *new]
            self._fleet[name] = group[:wanted]
            shown["CurrentInstanceCount"] = wanted
        self._launcher.retire(group[wanted:])

    # ---- requests ---------------------------------------------------------------------------------------------------------------

    @property
    def serving(self) -> bool:
        """Whether there is an instance to ask."""
        return any(self._fleet.values())

    def take_invocations(self, variant: str) -> float:
        """Invocations per instance since the last call: the metric of one minute for auto-scaling."""
        with self._lock:
            return self._invocations.pop(variant, 0.0)

    def count_of(self, variant: str) -> int:
        """Instances that serve a variant; 0 if there is no such variant."""
        return len(self._fleet.get(variant, ()))

    def invoke(
        self, body: bytes, headers: dict[str, str], target: str | None = None, seconds: float | None = None, received: float | None = None
    ) -> tuple[str, Reply]:
        """Send one request to the least busy instance of a variant (by weight, or the ``target``), capture and count it.

        Parameters
        ----------
        received
            when the request came in, by ``time.perf_counter``: what passed beside the model's own time is OverheadLatency

        Returns
        -------
        (variant name, Reply)
            status 0 means that no answer came within ``seconds`` (default `INVOCATION_SECONDS`)
        """
        with self._chosen(target) as instance:
            started = time.perf_counter()
            try:
                reply = instance.request(body, headers, seconds or INVOCATION_SECONDS)
            except InvocationTimedOut:
                reply = Reply(0, {}, b"")
            except ConnectionError:
                reply = SERVER_GONE
                threading.Thread(target=self._revive, args=(instance,), daemon=True).start()
            ended = time.perf_counter()
        if reply.status == 200:
            kind = reply.headers.get("Content-Type", "application/octet-stream")
            attributes = headers.get("X-Amzn-SageMaker-Custom-Attributes")
            self._capture.add(instance.variant, (headers.get("Content-Type", ""), body), (kind, reply.body), attributes)
        overhead = (started if received is None else received, time.perf_counter())
        self._count(instance.variant, reply.status, ended - started, overhead[1] - overhead[0] - (ended - started))
        return instance.variant, reply

    @contextlib.contextmanager
    def _chosen(self, target: str | None) -> Iterator[Instance]:
        with self._lock:
            instance = min(self._group(target), key=lambda one: (one.in_flight, random.random()))  # of equally busy ones any
            instance.in_flight += 1
        with instance.busy():
            yield instance

    def _group(self, target: str | None) -> list[Instance]:
        if target is not None:
            if not self._fleet.get(target):
                raise UnknownVariant(target)
            return self._fleet[target]
        shown = [variant for variant in self.fake.production_variants if self._fleet.get(variant["VariantName"])]
        if not shown:  # deleted a moment ago
            raise UnknownVariant("any")
        weights = [variant["CurrentWeight"] for variant in shown]
        chosen = random.choices(shown, weights if any(weights) else None)[0]
        return self._fleet[chosen["VariantName"]]

    def _revive(self, dead: Instance) -> None:
        """Put a new process in the place of one that ended, as AWS restarts a container; several requests may notice the same death."""
        with self._lock:
            if dead.reviving or dead not in self._fleet.get(dead.variant, ()):
                return
            dead.reviving = True
        try:
            new = self._launcher.launch([(self._variants[dead.variant], 1)])[dead.variant]
        except (StartFailed, procs.Closing) as error:
            _log.error("endpoint %s: %s is not restarted: %s", self.fake.endpoint_name, dead.id, error)
            dead.reviving = False  # the next request tries again
            return
        with self._lock:
            group = self._fleet.get(dead.variant, [])
            surplus = [dead] if dead in group else new  # scaled in or deleted meanwhile
            self._fleet[dead.variant] = [*(one for one in group if one is not dead), *(new if dead in group else [])]
        self._launcher.stop(surplus)

    def _count(self, variant: str, status: int, seconds: float, overhead: float) -> None:
        """CloudWatch's invocation metrics; latency in microseconds."""
        dimensions = {"EndpointName": self.fake.endpoint_name, "VariantName": variant}
        share = 1.0 / max(1, self.count_of(variant))
        with self._lock:
            self._invocations[variant] += share
        for name, value, unit in (
            ("Invocations", 1.0, "None"),
            ("InvocationsPerInstance", share, "None"),
            ("OverheadLatency", max(0.0, overhead) * 1e6, "Microseconds"),
            ("ModelLatency", seconds * 1e6, "Microseconds"),
            ("Invocation4XXErrors", float(400 <= status < 500), "None"),
            ("Invocation5XXErrors", float(status >= 500 or status == 0), "None"),
        ):
            state.count_metric("AWS/SageMaker", name, value, dimensions, unit)

    def _shown(self, name: str) -> dict:
        return next(variant for variant in self.fake.production_variants if variant["VariantName"] == name)


def log_group_arn(endpoint: str) -> str:
    """Where the model server of an endpoint writes."""
    return f"arn:aws:logs:{settings.region}:{settings.account}:log-group:/aws/sagemaker/Endpoints/{endpoint}"
