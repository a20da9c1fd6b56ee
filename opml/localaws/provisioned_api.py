"""Lambda's operations on provisioned concurrency, with AWS's refusals; `provisioned` does the work."""

import json
from urllib.parse import unquote

from moto.awslambda.exceptions import InvalidParameterValueException

from opml.localaws import functions
from opml.localaws.functions import pools
from opml.localaws.provisioned import Allocation
from opml.localaws.settings import settings

POINTED = "Version is pointed by a Provisioned Concurrency alias"
TAKEN = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"

Answer = tuple[int, dict, str]


def error(code: str, status: int, message: str, **members: str) -> Answer:
    """An error in the service's REST-JSON format."""
    headers = {"status": status, "x-amzn-errortype": code, "content-type": "application/json"}
    return status, headers, json.dumps({"Type": "User", "message": message, **members})


def described(allocation: Allocation) -> dict:
    """The members that all answers about one allocation have."""
    found = {
        "RequestedProvisionedConcurrentExecutions": allocation.requested,
        "AvailableProvisionedConcurrentExecutions": allocation.available,
        "AllocatedProvisionedConcurrentExecutions": allocation.available,
        "Status": allocation.status,
        "LastModified": allocation.modified.strftime("%Y-%m-%dT%H:%M:%S+0000"),
    }
    return found if allocation.failure is None else {**found, "StatusReason": allocation.failure}


def check_room(backend, fn, qualifier: str, wanted: int) -> None:
    """The allocation must fit the function's reservation, or what the account's pool has above its floor."""
    present = pools.allocations.find(fn.function_name, qualifier)
    others = pools.allocations.claimed(fn.function_name) - (present.requested if present else 0)
    own = functions.reserved(backend.get_function(fn.function_name))
    if own is not None and others + wanted > own:
        raise InvalidParameterValueException(
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
        )
    elsewhere = sum(pools.allocations.claimed(name) for name in functions.without_reservation(backend) if name != fn.function_name)
    left = functions.unreserved(backend) - settings.lambda_floor - elsewhere - others
    if own is None and wanted > left:
        raise InvalidParameterValueException(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{max(0, left)}]."
        )


class ProvisionedMixin:
    """Stands before moto's LambdaResponse in `opml.localaws.lambda_api.Lambda`."""

    def put_provisioned_concurrency_config(self) -> Answer:
        """Answers IN_PROGRESS at once; the environments are initialised in the background."""
        fn, qualifier = self._provisioned_version()
        wanted = int(json.loads(self.body)["ProvisionedConcurrentExecutions"])
        if wanted < 1:
            raise InvalidParameterValueException("ProvisionedConcurrentExecutions must be at least 1.")
        other = pools.allocations.of_version(fn)
        if other is not None and other.qualifier != qualifier:
            raise InvalidParameterValueException(POINTED if qualifier.isdigit() else TAKEN)
        check_room(self.backend, fn, qualifier, wanted)
        made = pools.allocations.put(fn, qualifier, wanted)
        begun = {"AvailableProvisionedConcurrentExecutions": 0, "AllocatedProvisionedConcurrentExecutions": 0, "Status": "IN_PROGRESS"}
        return 202, {"status": 202}, json.dumps({**described(made), **begun})

    def get_provisioned_concurrency_config(self) -> Answer:
        """One configuration; with ``List=ALL`` all of the function."""
        if self.querystring.get("List"):
            return self.list_provisioned_concurrency_configs()
        fn, qualifier = self._provisioned_version()
        found = pools.allocations.find(fn.function_name, qualifier)
        if found is None:
            text = "No Provisioned Concurrency Config found for this function"
            return error("ProvisionedConcurrencyConfigNotFoundException", 404, text)
        return 200, {}, json.dumps(described(found))

    def list_provisioned_concurrency_configs(self) -> Answer:
        """All of a function, with the ARN that each is for."""
        arn = self.backend.get_function(self._name).function_arn.removesuffix(":$LATEST")
        found = [{"FunctionArn": f"{arn}:{one.qualifier}", **described(one)} for one in pools.allocations.of_function(self._name)]
        return 200, {}, json.dumps({"ProvisionedConcurrencyConfigs": found})

    def delete_provisioned_concurrency_config(self) -> Answer:
        """The environments end with it; one that is not there is fine."""
        fn, qualifier = self._provisioned_version()
        pools.allocations.remove(fn.function_name, qualifier)
        return 204, {"status": 204}, ""

    def update_alias(self) -> Answer:
        """An alias that is pointed elsewhere takes its provisioned concurrency along."""
        answer = super().update_alias()
        alias = unquote(self.path.rstrip("/").split("/")[-1])
        fn = self.backend.get_function(self._name, alias)
        found = pools.allocations.find(self._name, alias)
        if found is not None and str(found.fn.version) != str(fn.version):
            pools.allocations.put(fn, alias, found.requested)
        return answer

    def delete_alias(self) -> Answer:
        """With its provisioned concurrency and its URL."""
        answer = super().delete_alias()
        alias = unquote(self.path.rstrip("/").split("/")[-1])
        pools.allocations.remove(self._name, alias)
        self.forget_urls(alias)
        return answer

    def _provisioned_version(self) -> tuple:
        """(moto's function of the version, qualifier)."""
        qualifier = self._qualifier or ""
        fn = self.backend.get_function(self._asked, qualifier or None)
        if str(fn.version) == "$LATEST":
            raise InvalidParameterValueException("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        return fn, qualifier
