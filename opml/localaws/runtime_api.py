"""SageMaker Runtime: InvokeEndpoint, answered by the endpoint's own processes, with AWS's error shapes."""

import json
from urllib.parse import unquote

from moto.sagemaker import urls as sagemaker_urls
from moto.sagemakerruntime import urls
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from opml.localaws import hosting, signing
from opml.localaws.settings import settings

LARGEST_BODY = 6_291_456  # bytes; BodyBlob in the API's model
FORWARDED = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes")
STREAM_PATH = "{0}/endpoints/(?P<name>[^/]+)/invocations-response-stream$"
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for each container in "
    "Amazon CloudWatch, resolve the issue, and try again."
)

Answer = tuple[int, dict, str | bytes]


def error(code: str, status: int, **members) -> Answer:
    """An error in the service's REST-JSON format."""
    return status, {"status": status, "x-amzn-errortype": code, "Content-Type": "application/json"}, json.dumps(members)


def model_error(endpoint: str, reply: hosting.Reply) -> Answer:
    """ModelError (424): what the container answered, or status 0 if it did not answer in time."""
    said = reply.body.decode("utf-8", "replace")
    party = "client" if 400 <= reply.status < 500 else "server"
    console = f"https://{settings.region}.console.aws.amazon.com/cloudwatch/home?region={settings.region}"
    message = TIMED_OUT if reply.status == 0 else (
        f'Received {party} error ({reply.status}) from primary with message "{said}". See {console}#logEventViewer:'
        f"group=/aws/sagemaker/Endpoints/{endpoint} in account {settings.account} for more information."
    )  # fmt: skip
    return error(
        "ModelError", 424, ErrorCode="CLIENT_ERROR_FROM_MODEL" if party == "client" else "INTERNAL_FAILURE_FROM_MODEL", Message=message,
        OriginalStatusCode=reply.status, OriginalMessage=said or message, LogStreamArn=hosting.log_group_arn(endpoint),
    )  # fmt: skip


class SageMakerRuntime(SageMakerRuntimeResponse):
    """InvokeEndpoint; the asynchronous and the streaming form answer 501."""

    use_raw_body = True  # the body is an image, not text

    @property
    def _name(self) -> str:
        return unquote(self.path.split("/")[2])

    def _determine_resource(self) -> str:
        """The ARN that moto's permission check uses."""
        return f"arn:aws:sagemaker:{self.region}:{self.current_account}:endpoint/{self._name.lower()}"

    def invoke_endpoint(self) -> Answer:
        """Ask one instance and pass on what it says."""
        body = self.raw_body if isinstance(self.raw_body, bytes) else str(self.raw_body or "").encode()
        if len(body) > LARGEST_BODY:
            limit = f"Member must have length less than or equal to {LARGEST_BODY}"
            text = f"1 validation error detected: Value at 'body' failed to satisfy constraint: {limit}"
            return error("ValidationError", 400, message=text)
        endpoint = hosting.find(self._name)
        if endpoint is None or not endpoint.serving:
            return self._not_found()
        return self._forward(endpoint, body)

    def _not_found(self) -> Answer:
        return error("ValidationError", 400, message=f"Endpoint {self._name} of account {settings.account} not found.")

    def _forward(self, endpoint: hosting.Endpoint, body: bytes) -> Answer:
        headers = {name: self.headers[name] for name in FORWARDED if self.headers.get(name)}
        target = self.headers.get("X-Amzn-SageMaker-Target-Variant")
        try:
            variant, reply = endpoint.invoke(body, headers, target, received=getattr(signing.received, "at", None))
        except hosting.UnknownVariant:
            if target is None:
                return self._not_found()
            return error("ValidationError", 400, message=f"Variant {target} not found for endpoint {self._name}.")
        if reply.status != 200:
            return model_error(self._name, reply)
        kept = {name: value for name, value in reply.headers.items() if name in FORWARDED}
        return 200, {"Content-Type": "application/octet-stream", **kept, "x-Amzn-Invoked-Production-Variant": variant}, reply.body

    def invoke_endpoint_async(self) -> Answer:
        """Not here."""
        return error("NotImplemented", 501, message="The local AWS has no asynchronous inference: use InvokeEndpoint.")

    def invoke_endpoint_with_response_stream(self) -> Answer:
        """Not here."""
        return error("NotImplemented", 501, message="The local AWS has no response streams yet: use InvokeEndpoint.")


def install() -> None:
    """Put our response class in the place of moto's; call before the first request."""
    for path in urls.url_paths:
        urls.url_paths[path] = SageMakerRuntime.dispatch
    sagemaker_urls.url_paths[STREAM_PATH] = SageMakerRuntime.dispatch  # moto takes only what ends with "invocations" for the runtime's
