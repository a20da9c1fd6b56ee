"""Lambda functions that execute and throttle: pools of warm execution environments and the account's concurrency."""

import logging
import threading
import time
from collections import Counter, defaultdict

from opml.localaws import state
from opml.localaws.environments import Environment, Outcome, fingerprint

ACCOUNT_LIMIT = 1000  # concurrent executions of the account in the region; new accounts often have 10
UNRESERVED_FLOOR = 100  # what reservations must leave to the other functions
IDLE_SECONDS = 600.0  # AWS publishes no figure; measurements of others found about ten minutes
PATIENCE_SECONDS = 6 * 3600.0  # how long AWS keeps an asynchronous event that is throttled
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
    return ACCOUNT_LIMIT - sum(reserved(fn) or 0 for fn in backend.list_functions() if fn.function_name != but)


class Pools:
    """All execution environments of the server, and how many events are in them."""

    def __init__(self):
        self._changed = threading.Condition()
        self._idle: dict[tuple[str, str], list[Environment]] = defaultdict(list)  # (function, version) -> newest last
        self._busy: dict[tuple[str, str], set[Environment]] = defaultdict(set)
        self._in_flight: Counter[str] = Counter()

    def invoke(self, backend, fn, event: str) -> Outcome:
        """Run one event (JSON text) in an execution environment; `Throttled` if none may be used."""
        environment = self._acquire(backend, fn)
        try:
            outcome = environment.run(event, fn.function_arn)
        finally:
            self._release(environment)
        self._count(fn, Invocations=1, Errors=int(outcome.failed), Duration=outcome.milliseconds)
        return outcome

    def invoke_later(self, backend, name: str, qualifier: str | None, event: str) -> None:
        """Run one event in the background; while it is throttled it waits for concurrency, as AWS's queue does.

        Known difference: AWS runs an event that failed twice more, after one and two minutes; here it is run once.
        """
        threading.Thread(target=self._when_possible, args=(backend, name, qualifier, event), daemon=True).start()

    def _when_possible(self, backend, name: str, qualifier: str | None, event: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.invoke(backend, backend.get_function(name, qualifier), event)
                return
            except Throttled:
                with self._changed:
                    self._changed.wait(1.0)  # a release wakes it; a change of the reservation it sees within a second
            except Exception:
                _log.exception("asynchronous event for %s", name)  # the function was deleted, say
                return

    def close(self, name: str, version: str | None = None) -> None:
        """End the environments of a function (or of one version), also those at work."""
        with self._changed:
            keys = [key for key in {*self._idle, *self._busy} if key[0] == name and version in (None, key[1])]
            doomed = [env for key in keys for env in (*self._idle.pop(key, ()), *self._busy.get(key, ()))]
        for environment in doomed:
            environment.close()

    # ---- acquire and release ----------------------------------------------------------------------------------------------------

    def _acquire(self, backend, fn) -> Environment:
        with self._changed:
            self._admit(backend, fn)
            self._in_flight[fn.function_name] += 1
            stale = self._stale(fn)
            environment = self._take(fn)
        for old in stale:
            old.close()
        return environment

    def _admit(self, backend, fn) -> None:
        own = reserved(backend.get_function(fn.function_name))
        if own is not None and self._in_flight[fn.function_name] >= own:
            self._refuse(fn, RESERVED_EXCEEDED)
        if own is None:
            shared = sum(n for name, n in self._in_flight.items() if not _has_reservation(backend, name))
            if shared >= unreserved(backend):
                self._refuse(fn, ACCOUNT_EXCEEDED)

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
        self._busy[_key(fn)].add(environment)
        return environment

    def _release(self, environment: Environment) -> None:
        fn = environment.fn
        with self._changed:
            self._in_flight[fn.function_name] -= 1
            self._busy[_key(fn)].discard(environment)
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


def _has_reservation(backend, name: str) -> bool:
    return any(fn.function_name == name and reserved(fn) is not None for fn in backend.list_functions())


pools = Pools()
