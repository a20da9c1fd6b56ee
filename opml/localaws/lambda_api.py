"""Lambda's operations that moto has not, or not really: Invoke, concurrency, account settings. `functions` does the work."""

import base64
import json
from urllib.parse import unquote

from moto.awslambda import urls
from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.responses import LambdaResponse

from opml.localaws import functions
from opml.localaws.function_urls_api import UrlsMixin
from opml.localaws.functions import pools
from opml.localaws.provisioned_api import ProvisionedMixin, error
from opml.localaws.settings import settings

LARGEST = {"RequestResponse": 6_291_456, "Event": 1_048_576}  # bytes of a request
ADDED_PATHS = (
    r"{0}/(?P<api_version>[^/]+)/account-settings/?$",
    r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/provisioned-concurrency/?$",
    r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/urls/?$",
    r"{0}/(?P<api_version>[^/]+)/functions/(?P<function_name>[\w_:%-]+)/response-streaming-invocations/?$",
)

Answer = tuple[int, dict, str]


def _not_yet(self) -> Answer:
    return error("NotImplemented", 501, "The local AWS has no response streams yet: use Invoke.")


class Lambda(ProvisionedMixin, UrlsMixin, LambdaResponse):
    """moto's Lambda with functions that run."""

    def _determine_resource(self) -> str:
        """The ARN that moto's permission check uses."""
        parts = self.path.split("/")
        if len(parts) <= 3 or parts[2] != "functions" or not parts[3]:
            return "*"
        return f"arn:aws:lambda:{self.region}:{self.current_account}:function:{self._name}"

    @property
    def _asked(self) -> str:
        """The function as the request names it: a name, name:qualifier or an ARN."""
        return unquote(self.path.split("/functions/", 1)[1].rstrip("/").split("/")[0])

    @property
    def _name(self) -> str:
        return self._asked.split(":function:")[-1].split(":")[0]

    @property
    def _qualifier(self) -> str | None:
        given = (self.querystring.get("Qualifier") or [None])[0]
        if given is None and self._asked.count(":") in (1, 7):  # name:qualifier or an ARN with one
            return self._asked.rsplit(":", 1)[1]
        return given

    # ---- Invoke -----------------------------------------------------------------------------------------------------------------

    def invoke(self) -> Answer:
        """RequestResponse, Event or DryRun."""
        fn = functions.resolve(self.backend, self._name, self._qualifier)
        kind = self.headers.get("X-Amz-Invocation-Type") or "RequestResponse"
        if problem := self._bad_event(kind):
            return problem
        event = self.body or "{}"
        if kind == "DryRun":
            return 204, {"status": 204}, ""
        if kind == "Event":
            pools.invoke_later(self.backend, self._name, self._qualifier, event)
            return 202, {"status": 202}, ""
        return self._run(fn, event)

    def _bad_event(self, kind: str) -> Answer | None:
        limit = LARGEST.get(kind, LARGEST["RequestResponse"])
        if len(self.body.encode()) > limit:
            text = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            return error("RequestTooLargeException", 413, text)
        try:
            json.loads(self.body or "{}")
        except ValueError as problem:
            return error("InvalidRequestContentException", 400, f"Could not parse request body into json: {problem}")
        return None

    def _run(self, fn, event: str) -> Answer:
        try:
            outcome = pools.invoke(self.backend, fn, event)
        except functions.Throttled as throttled:
            return error("TooManyRequestsException", 429, "Rate Exceeded.", Reason=throttled.reason)
        headers = {"content-type": "application/json", "X-Amz-Executed-Version": str(fn.version)}
        if outcome.failed:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            headers["X-Amz-Log-Result"] = base64.b64encode(outcome.tail).decode()
        return 200, headers, outcome.payload

    def invoke_async(self) -> Answer:
        """Not here: Event does the same."""
        return error("NotImplemented", 501, "InvokeAsync is deprecated: use Invoke with InvocationType=Event.")

    # ---- concurrency ------------------------------------------------------------------------------------------------------------

    def put_function_concurrency(self) -> Answer:
        """Reserve; 0 stops the function, and 100 must be left to the others."""
        fn = self.backend.get_function(self._name)
        wanted = int(self._get_param("ReservedConcurrentExecutions"))
        if functions.unreserved(self.backend, but=fn.function_name) - wanted < settings.lambda_floor:
            raise InvalidParameterValueException(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
                f"minimum value of [{settings.lambda_floor}]."
            )
        fn.reserved_concurrency = wanted
        return 200, {}, json.dumps({"ReservedConcurrentExecutions": wanted})

    def get_function_concurrency(self) -> Answer:
        """Nothing at all where nothing is reserved, as AWS."""
        found = functions.reserved(self.backend.get_function(self._name))
        return 200, {}, json.dumps({} if found is None else {"ReservedConcurrentExecutions": found})

    def get_function(self) -> str:
        """With a reservation of 0, too."""
        described = json.loads(super().get_function())
        found = functions.reserved(self.backend.get_function(self._name))
        if found is not None:  # moto leaves 0 out
            described["Concurrency"] = {"ReservedConcurrentExecutions": found}
        return json.dumps(described)

    def get_account_settings(self) -> Answer:
        """Limits of the account and what is left of the pool."""
        known = list(self.backend.list_functions())
        limit = {
            "TotalCodeSize": 80_530_636_800, "CodeSizeUnzipped": 262_144_000, "CodeSizeZipped": 52_428_800,
            "ConcurrentExecutions": settings.lambda_concurrency, "UnreservedConcurrentExecutions": functions.unreserved(self.backend),
        }  # fmt: skip
        usage = {"TotalCodeSize": sum(fn.code_size for fn in known), "FunctionCount": len(known)}
        return 200, {}, json.dumps({"AccountLimit": limit, "AccountUsage": usage})

    # ---- life -------------------------------------------------------------------------------------------------------------------

    def delete_function(self) -> Answer:
        """Its environments end with it."""
        version = self._qualifier
        self.backend.get_function(self._name)  # 404 for an unknown one
        if version is None:
            self.forget_urls()
        answer = super().delete_function()
        pools.close(self._name, version)
        return answer

    invoke_with_response_stream = _not_yet


def install() -> None:
    """Put our response class in the place of moto's, with the paths that moto lacks; call before the first request."""
    for path in (*urls.url_paths, *ADDED_PATHS):
        urls.url_paths[path] = Lambda.dispatch
