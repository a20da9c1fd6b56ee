"""Put our services in place of moto's, once, before the first request."""

import functools
import importlib
import threading
from collections.abc import Callable

from flask import Response, request
from moto import backends
from moto.core import responses, routing, utils
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, BaseResponse
from moto.sagemaker import urls
from moto.sagemaker.responses import SageMakerResponse
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from opml.localaws import hosting_api, iam_api, iam_gate, lambda_api, metrics_api, refusals, runtime_api
from opml.localaws.hosting_api import HostingMixin
from opml.localaws.training_api import TrainingMixin

LAZY = {
    "application-autoscaling": "autoscaling_api",
    "applicationautoscaling": "autoscaling_api",
    "ec2": "machine_images",
    "ssm": "machine_images",
}  # service -> our module that changes it, loaded with its first request

_loading = threading.RLock()


class SageMaker(HostingMixin, TrainingMixin, SageMakerResponse):
    """SageMaker's control operations: ours first, then moto's."""


class NotYet(ServiceException):
    """An operation that neither moto nor we have."""

    code = "NotImplementedException"


def install() -> None:
    """Swap the routes; a second call changes nothing."""
    urls.url_paths["{0}/$"] = SageMaker.dispatch
    hosting_api.install()
    runtime_api.install()
    lambda_api.install()
    metrics_api.install()
    iam_api.install()
    iam_gate.install()
    modules = frozenset(backends.list_of_moto_modules())  # moto lists a folder of 175 twice for each request: half of its time
    backends.list_of_moto_modules = lambda: modules
    _load_once()
    if not hasattr(BaseResponse.call_action, "answers_not_implemented"):
        BaseResponse.call_action = _answering_not_implemented(BaseResponse.call_action)


def _load_once() -> None:
    """moto reads a service's model when it is first asked for, in every thread that asks before one is done: 50 threads took 8 s."""
    if hasattr(routing.ServiceOperationRouter._get_router, "one_at_a_time"):
        return
    routing.ServiceOperationRouter._get_router = one_at_a_time(routing.ServiceOperationRouter._get_router)
    utils.get_service_model = routing.get_service_model = responses.get_service_model = one_at_a_time(utils.get_service_model)
    routing.get_service_router = responses.get_service_router = one_at_a_time(routing.get_service_router)


def one_at_a_time(function: Callable) -> Callable:
    """The same function, for one thread at a time among all such functions.

    It remembers its answers, so that threads that wait have theirs at once. And routes are compiled with :func:`ast.parse`, which in two
    threads of Python 3.11 at once may raise SystemError ("AST constructor recursion depth mismatch").
    """

    @functools.wraps(function)
    def call(*arguments):
        with _loading:
            return function(*arguments)

    call.one_at_a_time = True
    return call


def preparing(create_backend_app):
    """The function that makes a service's application, with what is ours put in place just before: some services are slow to import."""

    @one_at_a_time
    def create(service: str | None):
        if service is None:
            return refusals.unknown_service
        if service in LAZY:
            importlib.import_module(f"opml.localaws.{LAZY[service]}").install()
        app = create_backend_app(service)
        for error in (NotFound, MethodNotAllowed):
            app.register_error_handler(error, _no_route)
        return app

    return create


def _no_route(error: HTTPException):
    """No route is no such operation; what a service itself calls not found stays as it is."""
    if request.routing_exception is None:
        return error
    return Response.from_app(refusals.unknown_operation, request.environ)


def _answering_not_implemented(call_action):
    """moto lets NotImplementedError become a 500, which clients retry and cannot read; 501 in the service's format says it once."""

    def call(self):
        try:
            return call_action(self)
        except NotImplementedError as error:
            print(f"not implemented: {error}")  # goes to the server's log
            _, headers, body = self.serialized(ActionResult(NotYet(f"The local AWS does not have this operation yet: {error}")))
            headers["status"] = 501
            return 501, headers, body

    call.answers_not_implemented = True
    return call
