"""What the platform does in a role's name: a job's downloads and uploads need the role's permissions, not the server's.

``with acting_as(role_arn)`` marks a thread; ``state`` asks `check` before it touches S3. Outside of it nothing is checked.
"""

import contextlib
import threading
from collections.abc import Iterator

from opml.localaws import iam_record, iam_shared
from opml.localaws.iam_policy import authorize
from opml.localaws.iam_principals import Principal, of_role
from opml.localaws.settings import settings

_thread = threading.local()


class AccessDenied(Exception):
    """The role that acts lacks a permission; the text is S3's."""


@contextlib.contextmanager
def acting_as(role_arn: str, session_name: str = "SageMaker", by: str = "sagemaker.amazonaws.com") -> Iterator[None]:
    """Do what follows in this thread in the name of a role."""
    before = current()
    _thread.who = (role_arn, session_name, by)
    try:
        yield
    finally:
        _thread.who = before


def current() -> tuple[str, str, str] | None:
    """(role, session name, service) that act in this thread, if any."""
    return getattr(_thread, "who", None)


def check(action: str, resource: str, **context: str) -> None:
    """Raise ``AccessDenied`` if a role acts in this thread and may not do this; keep a record."""
    if (who := current()) is not None:
        check_role(*who, action, resource, {name.replace("__", ":"): value for name, value in context.items()})


def check_role(role_arn: str, session_name: str, by: str, action: str, resource: str, context: dict | None = None) -> None:
    """The same for a role that is named; one that is gone may do nothing."""
    try:
        principal = of_role(role_arn, session_name)
    except LookupError as error:
        raise AccessDenied(str(error)) from None
    keys = {**iam_shared.of_principal(principal), **(context or {})}
    verdict = authorize(principal.grants, action, resource, keys, iam_shared.policies(principal, resource))
    message = "" if verdict.allowed else iam_shared.refusal(principal, action, resource, verdict.reason(action))
    operation = action.partition(":")[2]
    iam_record.add(_call(principal, action, operation, resource, by, message))
    if message:
        raise AccessDenied(message)


def _call(principal: Principal, action: str, operation: str, resource: str, by: str, message: str) -> iam_record.Call:
    error = "AccessDenied" if message else ""
    return iam_record.Call(principal, action, operation, (resource,), settings.region, error=error, message=message, by=by)
