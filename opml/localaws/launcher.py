"""The processes of one endpoint: started side by side, drained and ended; none is lost when the endpoint is deleted meanwhile."""

import threading

from opml.localaws import state
from opml.localaws.iam_acting import acting_as
from opml.localaws.instances import STARTUP_SECONDS, Instance, StartFailed

DRAIN_SECONDS = 60.0


class Launcher:
    """Starts and ends an endpoint's instances, and knows every one there is, serving or not yet."""

    def __init__(self, backend, endpoint: str):
        self._backend, self._endpoint = backend, endpoint
        self._lock = threading.Lock()
        self._started: set[Instance] = set()
        self._closed = False

    def close(self) -> list[Instance]:
        """Start none from now on; the instances that are to be stopped."""
        with self._lock:
            self._closed = True
            return list(self._started)

    def launch(self, wanted: list[tuple[dict, int]]) -> dict[str, list[Instance]]:
        """Start the instances side by side and wait for all; if one fails none is left."""
        fleet: dict[str, list[Instance]] = {}
        try:
            for variant, count in wanted:
                group = fleet.setdefault(variant["VariantName"], [])
                for _ in range(count):
                    group.append(self._start(variant))
            for variant, _ in wanted:
                for instance in fleet[variant["VariantName"]]:
                    instance.wait_ready(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS))
        except BaseException:
            self.stop([instance for group in fleet.values() for instance in group])
            raise
        return fleet

    def _start(self, variant: dict) -> Instance:
        model = self._backend._models.get(variant["ModelName"])
        if model is None:
            raise StartFailed(f'Could not find model "{variant["ModelName"]}".')
        try:
            credentials = state.role_credentials(model.execution_role_arn, "SageMaker")
        except LookupError as error:
            raise StartFailed(f"The execution role of model {model.model_name} cannot be used: {error}") from error
        with acting_as(model.execution_role_arn):  # its data is read with its role's permissions
            instance = Instance(self._endpoint, variant["VariantName"], _container(model), credentials)
        with self._lock:
            self._started.add(instance)
            closed = self._closed
        if closed:  # deleted while it was starting: close did not see this one
            self.stop([instance])
            raise StartFailed("The endpoint was deleted.")
        return instance

    def stop(self, instances: list[Instance]) -> None:
        """End them at once."""
        for instance in instances:
            instance.stop()
        with self._lock:
            self._started.difference_update(instances)

    def retire(self, instances: list[Instance]) -> None:
        """End them when they have answered what they were asked."""
        for instance in instances:
            instance.drain(DRAIN_SECONDS)
        self.stop(instances)


def _container(model) -> dict:
    found = model.primary_container or model.containers[0]
    return found if isinstance(found, dict) else found.response_object
