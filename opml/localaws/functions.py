"""Lambda functions that execute and throttle: pools of warm execution environments and the account's concurrency."""

import json
import logging
import random
import threading
import time
from collections import Counter, defaultdict

from opml.localaws import state
from opml.localaws.environments import Environment, Outcome, fingerprint
from opml.localaws.provisioned import Allocations
from opml.localaws.settings import settings

IDLE_SECONDS = 600.0  # AWS publishes no figure; measurements of others found about ten minutes
PATIENCE_SECONDS = 6 * 3600.0  # how long AWS keeps an asynchronous event that is throttled
RETRIES_AFTER = (60.0, 120.0)  # AWS's seconds before an asynchronous event that failed runs again
RESERVED_EXCEEDED = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_EXCEEDED = "ConcurrentInvocationLimitExceeded"

_log = logging.getLogger(__name__)


class Throttled(Exception):
    """No concurrency is left; ``reason`` is the Reason of TooManyRequestsException."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def reserved(fn) -> int | None:
    """The function's reserved concurrency; None if there is none, while 0 is a value: the function is stopped."""
    return None if fn.reserved_concurrency is None else int(fn.reserved_concurrency)


def unreserved(backend, but: str | None = None) -> int:
    """What the account's limit leaves to functions without a reservation (not counting the one named ``but``)."""
    return settings.lambda_concurrency - sum(reserved(fn) or 0 for fn in backend.list_functions() if fn.function_name != but)


def without_reservation(backend) -> set[str]:
    """The functions that share what is not reserved."""
    return {fn.function_name for fn in backend.list_functions() if reserved(fn) is None}


def resolve(backend, asked: str, qualifier: str | None):
    """The version that one invocation gets: an alias may send a share of them to a second version."""
    fn = backend.get_function(asked, qualifier)
    if qualifier is None or qualifier == "$LATEST" or qualifier.isdigit():
        return fn
    weights = (backend.get_alias(qualifier, fn.function_name).routing_config or {}).get("AdditionalVersionWeights") or {}
    point = random.random()
    for version, weight in weights.items():
        if point < weight:
            return backend.get_function(fn.function_name, version)
        point -= weight
    return fn


class Pools:
    """All execution environments of the server, and how many events are in them."""

    def __init__(self):
        self._changed = threading.Condition()
        self._idle: dict[tuple[str, str], list[Environment]] = defaultdict(list)  # (function, version) -> newest last
        self._busy: dict[tuple[str, str], set[Environment]] = defaultdict(set)
        self._on_demand: Counter[str] = Counter()  # events at work outside of provisioned concurrency
        self.allocations = Allocations(self._changed)

    def invoke(self, backend, fn, event: str) -> Outcome:
        """Run one event (JSON text) in an execution environment; `Throttled` if none may be used."""
        environment = self._acquire(backend, fn)
        try:
            outcome = environment.run(event, fn.function_arn)
        finally:
            self._release(environment)
        self._count(fn, Invocations=1, Errors=int(outcome.failed), Duration=outcome.milliseconds)
        if self.allocations.of_version(fn) is not None:
            self._count(fn, **{f"ProvisionedConcurrency{'Invocations' if environment.provisioned else 'SpilloverInvocations'}": 1})
        return outcome

    def invoke_later(self, backend, name: str, qualifier: str | None, event: str) -> None:
        """Run one event in the background: while it is throttled it waits for concurrency, as AWS's queue does; one that fails runs
        again after one and after two (simulated) minutes, unless the function's MaximumRetryAttempts says otherwise."""
        threading.Thread(target=self._until_done, args=(backend, name, qualifier, event), daemon=True).start()

    def _until_done(self, backend, name: str, qualifier: str | None, event: str) -> None:
        try:
            fn = backend.get_function(name, qualifier)
            for pause in (*RETRIES_AFTER[: _retries(fn)], None):
                outcome = self._when_possible(backend, name, qualifier, event)
                if pause is None or outcome is None or not outcome.failed:
                    return
                time.sleep(settings.real_seconds(pause))
        except Exception:
            _log.exception("asynchronous event for %s", name)  # the function was deleted, say

    def _when_possible(self, backend, name: str, qualifier: str | None, event: str) -> Outcome | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                return self.invoke(backend, resolve(backend, name, qualifier), event)
            except Throttled:
                with self._changed:
                    self._changed.wait(1.0)  # a release wakes it; a change of the reservation it sees within a second
        return None

    def close(self, name: str, version: str | None = None) -> None:
        """End the environments of a function (or of one version), also those at work."""
        with self._changed:
            keys = [key for key in {*self._idle, *self._busy} if key[0] == name and version in (None, key[1])]
            doomed = [env for key in keys for env in (*self._idle.pop(key, ()), *self._busy.get(key, ()))]
        for environment in doomed:
            environment.close()
        for allocation in self.allocations.of_function(name):
            if version in (None, str(allocation.fn.version)):
                self.allocations.remove(name, allocation.qualifier)

    # ---- acquire and release ----------------------------------------------------------------------------------------------------

    def _acquire(self, backend, fn) -> Environment:
        with self._changed:
            self._check_not_stopped(backend, fn)
            environment, stale = self.allocations.take(fn), []
            if environment is None:
                self._admit(backend, fn)
                self._on_demand[fn.function_name] += 1
                stale = self._stale(fn)
                environment = self._take(fn)
            self._busy[_key(fn)].add(environment)
        for old in stale:
            old.close()
        return environment

    def _check_not_stopped(self, backend, fn) -> None:
        if reserved(backend.get_function(fn.function_name)) == 0:
            self._refuse(fn, RESERVED_EXCEEDED)

    def _admit(self, backend, fn) -> None:
        """Refuse what would run on demand beyond the reservation, or beyond the account's pool; provisioned concurrency takes its share
        of them whether it is used or not."""
        own = reserved(backend.get_function(fn.function_name))
        sharing = {fn.function_name} if own is not None else without_reservation(backend)
        taken = sum(self._on_demand[name] + self.allocations.claimed(name) for name in sharing)
        if taken >= (unreserved(backend) if own is None else own):
            self._refuse(fn, ACCOUNT_EXCEEDED if own is None else RESERVED_EXCEEDED)

    def _refuse(self, fn, reason: str) -> None:
        self._count(fn, Throttles=1)
        raise Throttled(reason)

    def _stale(self, fn) -> list[Environment]:
        """Take out what nobody may use again: other code or settings than the version has now, or idle for too long."""
        now, doomed = time.monotonic(), []
        for key, pool in self._idle.items():
            current = fingerprint(fn) if key == _key(fn) else None
            old = [env for env in pool if now - env.last_used > IDLE_SECONDS or (current and env.fingerprint != current)]
            doomed += old
            self._idle[key] = [env for env in pool if env not in old]
        return doomed

    def _take(self, fn) -> Environment:
        """The newest idle environment, or a new one: what measurements found AWS to do."""
        pool = self._idle[_key(fn)]
        while pool:
            environment = pool.pop()
            if environment.alive:
                break
        else:
            environment = Environment(fn)
        return environment

    def _release(self, environment: Environment) -> None:
        fn = environment.fn
        with self._changed:
            self._busy[_key(fn)].discard(environment)
            if environment.provisioned:
                keep = self.allocations.give_back(environment)
            else:
                self._on_demand[fn.function_name] -= 1
                keep = environment.alive and environment.fingerprint == fingerprint(fn)
                if keep:
                    self._idle[_key(fn)].append(environment)
            self._changed.notify_all()
        if not keep:
            environment.close()

    def _count(self, fn, **values: float) -> None:
        for name, value in values.items():
            unit = "Milliseconds" if name == "Duration" else "Count"
            state.count_metric("AWS/Lambda", name, value, {"FunctionName": fn.function_name}, unit)


def _key(fn) -> tuple[str, str]:
    return fn.function_name, str(fn.version)


def _retries(fn) -> int:
    """How often an asynchronous event that failed is run again."""
    configured = fn.event_invoke_config[-1].config if fn.event_invoke_config else {}
    if isinstance(configured, str):
        configured = json.loads(configured)
    return int(configured.get("MaximumRetryAttempts", len(RETRIES_AFTER)))


pools = Pools()
