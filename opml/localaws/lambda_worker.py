"""The Python runtime of one Lambda execution environment: imports the handler once, then answers one event at a time.

Usage: ``lambda_worker.py REPLY_FD``. Requests are JSON lines on standard input; the answer to "how did the init go" and each reply are JSON
lines on the descriptor. What the user's code prints goes to standard output, which is the function's log. Error objects have the shapes of
AWS's runtime. It imports nothing of opml.
"""

import importlib
import json
import logging
import os
import sys
import time
import traceback

TASK_ROOT = "/var/task"  # what AWS's stack traces show; here the code is in a working folder whose path is nobody's business
request_id = ""


def shown(thing: object, names: tuple[str, ...]) -> str:
    """The text of an object of AWS's runtime: people's functions print their context, and return it in answers."""
    return f"{type(thing).__name__}([{','.join(f'{name}={getattr(thing, name)}' for name in names)}])"


class CognitoIdentity:
    """The identity of a caller who came by Cognito: nobody, here."""

    cognito_identity_id = cognito_identity_pool_id = None

    def __repr__(self) -> str:
        return shown(self, ("cognito_identity_id", "cognito_identity_pool_id"))


class LambdaContext:
    """The second argument of a handler."""

    SHOWN = (
        "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb", "function_version",
        "invoked_function_arn", "client_context", "identity",
    )  # fmt: skip

    def __init__(self, request: dict):
        self.aws_request_id = request["request_id"]
        self.invoked_function_arn = request["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context, self.identity = None, CognitoIdentity()
        self._deadline = request["deadline"]

    def __repr__(self) -> str:
        return shown(self, self.SHOWN)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function's timeout."""
        return max(0, int((self._deadline - time.time()) * 1000))


class LogHandler(logging.Handler):
    """The root logger of AWS's runtime: ``[LEVEL]<tab>time<tab>request id<tab>message`` on standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        print(f"[{record.levelname}]\t{moment}\t{request_id}\t{self.format(record)}", flush=True)


def described(error: BaseException, **more: str) -> dict:
    """An exception as AWS returns it, with the frames of the user's code only."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename != __file__
    ]
    lines = [line.replace(os.environ["LAMBDA_TASK_ROOT"], TASK_ROOT) for line in traceback.format_list(frames)]
    return {"errorMessage": str(error), "errorType": type(error).__name__, **more, "stackTrace": lines}


def runtime_error(kind: str, message: str) -> dict:
    """An error of the runtime itself."""
    return {"errorMessage": message, "errorType": f"Runtime.{kind}", "requestId": "", "stackTrace": []}


def load(setting: str):
    """The handler named ``module.function``, or the error object that every invocation will get."""
    module, dot, name = setting.rpartition(".")
    if not dot:
        return None, runtime_error("MalformedHandlerName", f"Bad handler '{setting}': not enough values to unpack (expected 2, got 1)")
    try:
        return getattr(importlib.import_module(module.replace("/", ".")), name), None
    except ImportError as error:
        return None, runtime_error("ImportModuleError", f"Unable to import module '{module}': {error}")
    except SyntaxError as error:
        return None, runtime_error("UserCodeSyntaxError", f"Syntax error in module '{module}': {error}")
    except AttributeError as error:
        if name in str(error) and "has no attribute" in str(error) and module in sys.modules:
            return None, runtime_error("HandlerNotFound", f"Handler '{name}' missing on module '{module}'")
        return None, described(error)
    except Exception as error:
        return None, described(error)


def reply_to(handler, request: dict) -> dict:
    """``{"result": text}`` with the handler's answer as JSON, or ``{"error": {...}}``."""
    try:
        result = handler(request["event"], LambdaContext(request))
    except Exception as error:
        return {"error": described(error, requestId=request["request_id"])}
    try:
        return {"result": json.dumps(result)}
    except (TypeError, ValueError) as error:
        return {"error": {**runtime_error("MarshalError", f"Unable to marshal response: {error}"), "requestId": request["request_id"]}}


def main() -> None:
    """Initialise, report, then serve until standard input ends."""
    global request_id
    replies = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    requests, sys.stdin = sys.stdin, open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
    logging.getLogger().addHandler(LogHandler())
    handler, broken = load(os.environ["_HANDLER"])
    sys.stdout.flush()
    print(json.dumps({"init": broken}), file=replies)
    for line in requests:
        request = json.loads(line)
        request_id = request["request_id"]
        reply = {"error": broken} if broken else reply_to(handler, request)
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps(reply), file=replies)


if __name__ == "__main__":
    main()
