"""The model server of one endpoint instance: a process of its own that runs the uploaded handlers.

Usage: ``serve_worker.py SOCKET READY_FD``. Loads the model, listens on the Unix socket, then writes one byte to the descriptor.

It takes the decisions of AWS's inference toolkit: which functions of the user's module count, what they are given, which type is passed
as text, which status an exception has. It imports nothing of opml, since the uploaded code brings its own.
"""

import http.server
import importlib
import importlib.util
import inspect
import io
import json
import os
import socketserver
import sys
import threading
import time
import traceback

TEXT_TYPES = ("application/json", "text/csv")  # passed to the handlers as str, everything else as bytes
HANDLERS = ("input_fn", "predict_fn", "output_fn")


class UnsupportedType(Exception):
    """A content type the default handlers cannot read or write."""

    status_code, phrase = 415, "Unsupported Media Type"

    def __init__(self, content_type: str):
        self.message = f"Content type {content_type} is not supported by this framework."
        super().__init__(self.message)


def default_model_fn(model_dir: str):
    """The one TorchScript file of the folder, as in AWS's PyTorch container."""
    import torch

    files = [name for name in sorted(os.listdir(model_dir)) if name.endswith((".pt", ".pth"))]
    if "model.pt" not in files and len(files) != 1:
        raise ValueError(f"Exactly one .pth or .pt file is required for PyTorch models: {files}")
    path = os.path.join(model_dir, "model.pt" if "model.pt" in files else files[0])
    return torch.jit.load(path, map_location="cpu").eval()


def default_input_fn(data, content_type: str):
    """JSON, CSV or NPY as a float tensor."""
    import numpy
    import torch

    readers = {
        "application/json": lambda: numpy.array(json.loads(data)),
        "text/csv": lambda: numpy.genfromtxt(io.StringIO(data), delimiter=","),
        "application/x-npy": lambda: numpy.load(io.BytesIO(data), allow_pickle=False),
    }
    if content_type not in readers:
        raise UnsupportedType(content_type)
    array = readers[content_type]()
    return torch.FloatTensor(array) if content_type in TEXT_TYPES else torch.from_numpy(array)


def default_predict_fn(data, model):
    """The model's output, without gradients; the toolkit puts the model into evaluation mode, which a ``model_fn`` may rely on."""
    import torch

    model.eval()
    with torch.no_grad():
        return model(data)


def default_output_fn(prediction, accept: str):
    """The prediction in the first type of ``accept`` that can be written; a tensor is plain numbers first, float32 thus float64."""
    import numpy

    plain = prediction.detach().cpu().tolist() if hasattr(prediction, "detach") else prediction
    for wanted in (part.split(";")[0].strip() for part in accept.split(",")):
        if wanted in ("application/json", "*/*"):
            return json.dumps(plain.tolist() if hasattr(plain, "tolist") else plain), "application/json"
        if wanted == "application/x-npy":
            buffer = io.BytesIO()
            numpy.save(buffer, numpy.asarray(plain))
            return buffer.getvalue(), wanted
        if wanted == "text/csv":
            buffer = io.StringIO()
            numpy.savetxt(buffer, numpy.atleast_2d(plain), delimiter=",", fmt="%s")
            return buffer.getvalue(), wanted
    raise UnsupportedType(accept)


def call(function, *arguments):
    """Call a handler, with a context (none here) if it takes one argument more than the contract gives."""
    parameters = len(inspect.signature(function).parameters)
    return function(*arguments, None) if parameters == len(arguments) + 1 else function(*arguments)


class Model:
    """The loaded model and the functions that serve it."""

    def __init__(self, model_dir: str, module):
        transform = getattr(module, "transform_fn", None)
        if transform and any(hasattr(module, name) for name in HANDLERS):
            raise ValueError(
                "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or output_fn implementation"
            )
        self.transform = transform or self._by_three
        self._input, self._predict, self._output = (getattr(module, name, globals()[f"default_{name}"]) for name in HANDLERS)
        self._model = call(getattr(module, "model_fn", default_model_fn), model_dir)

    def _by_three(self, model, data, content_type, accept):
        prediction = call(self._predict, call(self._input, data, content_type), model)
        return call(self._output, prediction, accept)

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """The response's body and content type."""
        data = body.decode("utf-8") if content_type in TEXT_TYPES else body
        result = call(self.transform, self._model, data, content_type, accept)
        content, kind = result if isinstance(result, tuple) else (result, accept)
        return (content.encode("utf-8") if isinstance(content, str) else bytes(content)), kind


def load() -> Model:
    """Import the user's module from the code folder (the defaults serve where there is none) and load the model."""
    code = os.environ["SAGEMAKER_SUBMIT_DIRECTORY"]
    sys.path.insert(0, code)
    if os.path.exists(os.path.join(code, "requirements.txt")):
        print("requirements.txt found: the local AWS installs nothing, the environment that runs it must have these packages", flush=True)
    name = os.environ.get("SAGEMAKER_PROGRAM", "inference.py").removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name) if importlib.util.find_spec(name) else None
    return Model(os.environ["SM_MODEL_DIR"], module)


def failure(error: Exception) -> tuple[int, bytes]:
    """Status and text of a handler's exception: its own ``status_code`` and ``message`` if it has them, as the toolkit's errors do."""
    status = getattr(error, "status_code", None)
    known = isinstance(status, int) and 400 <= status <= 599
    message = getattr(error, "message", str(error)) if known else str(error)
    trace = "".join(traceback.format_exception(error))
    print(trace, flush=True)
    return (status if known else 500), f"{message}\n{trace}".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """``/ping`` and ``/invocations``, on a connection that stays open."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave in one piece
    model: Model
    turn: threading.Semaphore

    def log_message(self, *arguments) -> None:
        """Nothing: the handler writes its own line."""

    def do_GET(self) -> None:
        self._send(200 if self.path == "/ping" else 404, b"", "text/plain")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        accept = self.headers.get("Accept") or "*/*"
        if accept == "*/*":
            accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        started = time.perf_counter()
        try:
            with self.turn:
                content, kind = self.model.answer(body, self.headers.get("Content-Type", ""), accept)
            status = 200
        except Exception as error:  # whatever the user's code raises is the caller's answer
            (status, content), kind = failure(error), "text/plain"
        print(f"POST /invocations {status} {1000 * (time.perf_counter() - started):.1f} ms", flush=True)
        self._send(status, content, kind)

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if attributes := self.headers.get("X-Amzn-SageMaker-Custom-Attributes"):
            self.send_header("X-Amzn-SageMaker-Custom-Attributes", attributes)
        self.end_headers()
        self.wfile.write(content)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """One thread a connection; the semaphore decides how many are in the model at one time."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Load, listen, report, serve."""
    socket_path, ready = sys.argv[1], int(sys.argv[2])
    Handler.model = load()
    Handler.turn = threading.Semaphore(int(os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or 1))
    with Server(socket_path, Handler) as server:
        os.write(ready, b"1")
        os.close(ready)
        server.serve_forever()


if __name__ == "__main__":
    main()
