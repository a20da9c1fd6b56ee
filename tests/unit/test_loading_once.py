"""Services whose first requests come at the same time."""

import subprocess
import sys

CODE = """
import ast, sys, threading
from concurrent.futures import ThreadPoolExecutor
from moto.core import routing
from opml.localaws import api

api.install()
sys.setswitchinterval(1e-5)
parse, inside, together = ast.parse, threading.Semaphore(1), []
def watched(*arguments, **named):
    alone = inside.acquire(blocking=False)
    together.append(not alone)
    try:
        return parse(*arguments, **named)
    finally:
        if alone:
            inside.release()
ast.parse = watched
services = ["lambda", "sagemaker-runtime", "apigateway", "lambda", "efs", "lambda", "batch", "lambda"]
with ThreadPoolExecutor(len(services)) as pool:
    routers = list(pool.map(lambda name: routing.get_service_router(name)._get_router("rest-json"), services))
print(len({id(router) for router, name in zip(routers, services) if name == "lambda"}), any(together), len(together) > 1000)
"""


def test_models_and_routes_are_read_once_and_in_one_thread_at_a_time():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False", "True"], done.stdout + done.stderr
