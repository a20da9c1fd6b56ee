"""Provisioned concurrency: environments of a published version that are initialised before anybody asks for them."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from opml.localaws import procs, state
from opml.localaws.environments import Environment

AT_ONCE = 8  # environments that are initialised side by side

_log = logging.getLogger(__name__)


class Allocation:
    """What one qualifier asked for, and the environments that it has."""

    def __init__(self, fn, qualifier: str, requested: int):
        self.fn, self.qualifier, self.requested = fn, qualifier, requested
        self.modified = state.now()
        self.failure: str | None = None
        self.gone = False
        self.idle: list[Environment] = []
        self.all: set[Environment] = set()

    @property
    def available(self) -> int:
        """Initialised environments, at work or not."""
        return len(self.all)

    @property
    def status(self) -> str:
        """AWS's word."""
        if self.failure:
            return "FAILED"
        return "READY" if self.available >= self.requested else "IN_PROGRESS"


class Allocations:
    """All allocations of the server; ``changed`` is the lock of the pools, under which they change."""

    def __init__(self, changed: threading.Condition):
        self._changed = changed
        self._known: dict[tuple[str, str], Allocation] = {}  # (function, qualifier)

    def find(self, name: str, qualifier: str) -> Allocation | None:
        """The allocation made with this qualifier."""
        return self._known.get((name, qualifier))

    def of_function(self, name: str) -> list[Allocation]:
        """All allocations of a function."""
        return [found for (owner, _), found in list(self._known.items()) if owner == name]

    def of_version(self, fn) -> Allocation | None:
        """The one allocation that a version may have, made by its number or by an alias that points to it."""
        return next((found for found in self.of_function(fn.function_name) if str(found.fn.version) == str(fn.version)), None)

    def claimed(self, name: str) -> int:
        """Concurrency of a function that is taken from its reservation, or from the account's pool, at all times."""
        return sum(found.requested for found in self.of_function(name))

    def put(self, fn, qualifier: str, requested: int) -> Allocation:
        """Replace what the qualifier had; the environments are initialised in the background."""
        self.remove(fn.function_name, qualifier)
        with self._changed:
            self._known[fn.function_name, qualifier] = made = Allocation(fn, qualifier, requested)
        threading.Thread(target=self._fill, args=(made, requested), daemon=True).start()
        return made

    def remove(self, name: str, qualifier: str) -> bool:
        """End an allocation and its environments; one that is at work ends with its event. False if there was none."""
        with self._changed:
            found = self._known.pop((name, qualifier), None)
            if found is None:
                return False
            found.gone, doomed, found.idle = True, found.idle, []
        for environment in doomed:
            environment.close()
        return True

    def _fill(self, allocation: Allocation, count: int) -> None:
        with ThreadPoolExecutor(min(AT_ONCE, count)) as workers:
            for _ in range(count):
                workers.submit(self._add_one, allocation)

    def _add_one(self, allocation: Allocation) -> None:
        environment = Environment(allocation.fn, provisioned=True)
        try:
            problem = environment.warm()
        except procs.Closing:
            problem = "the local AWS is ending"
        except Exception as error:
            _log.exception("provisioned concurrency of %s", allocation.fn.function_name)
            problem = f"The local AWS failed: {type(error).__name__}: {error}"
        with self._changed:
            if problem is None and not allocation.gone:
                allocation.all.add(environment)
                allocation.idle.append(environment)
                return
            allocation.failure = problem and f"FUNCTION_ERROR_INIT_FAILURE: {problem}"
        environment.close()

    def take(self, fn) -> Environment | None:
        """An idle environment of the version; None if it has none. Call with the lock held."""
        allocation = self.of_version(fn)
        while allocation is not None and allocation.idle:
            environment = allocation.idle.pop()
            if environment.alive:
                return environment
            self._lose(allocation, environment)
        return None

    def give_back(self, environment: Environment) -> bool:
        """Whether it may serve again. A dead one is replaced. Call with the lock held."""
        owner = next((found for found in self._known.values() if environment in found.all), None)
        if owner is not None and environment.alive:
            owner.idle.append(environment)
            return True
        if owner is not None:
            self._lose(owner, environment)
        return False

    def _lose(self, allocation: Allocation, environment: Environment) -> None:
        allocation.all.discard(environment)
        threading.Thread(target=self._fill, args=(allocation, 1), daemon=True).start()
