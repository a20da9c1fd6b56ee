"""``python -m opml local start|env|status|stop|run``: the local AWS for any program that speaks to AWS."""

import argparse
import os
import shlex
import signal
import subprocess
import time

import psutil

from opml.errors import BadInput, LocalAwsError
from opml.localaws import client, lifecycle, procs
from opml.localaws.lifecycle import LocalAws
from opml.localaws.settings import OWNED_BY

IDLE_MINUTES = 120.0
NOT_RUNNING = 3  # exit status of `status`, as init scripts have it
USE = 'eval "$(python -m opml local env)"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of ``opml local``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    sub = actions.add_parser("start", help="start a server in the background, or say where one runs")
    sub.add_argument(
        "--idle-minutes", type=float, default=IDLE_MINUTES, metavar="N",
        help="it ends by itself after N minutes without a request or a running job; 0 never (default: %(default)g)",
    )  # fmt: skip
    sub.add_argument(
        "--time-scale", type=float, default=lifecycle.TIME_SCALE, metavar="S",
        help="real seconds per simulated minute: how fast alarms, cooldowns and retries go (default: %(default)g)",
    )  # fmt: skip
    sub.add_argument(
        "--lambda-concurrency", type=int, default=1000, metavar="N",
        help="the account's limit of concurrent executions; new AWS accounts have 10 (default: %(default)d)",
    )  # fmt: skip
    sub.set_defaults(action_function=start)
    actions.add_parser("env", help=f"print what a shell needs to use it: {USE}").set_defaults(action_function=env)
    actions.add_parser("status", help="say whether one runs and what it does; exit status 3 if none").set_defaults(action_function=status)
    actions.add_parser("stop", help="end it and all it started").set_defaults(action_function=stop)
    sub = actions.add_parser("run", help="run a command with a server of its own, which ends with it: run -- COMMAND ...")
    sub.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    sub.set_defaults(action_function=run_command)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; returns the exit status."""
    return args.action_function(args)


def start(args: argparse.Namespace) -> int:
    """Start a background server unless one runs."""
    if args.idle_minutes < 0:
        raise BadInput(f"--idle-minutes must not be negative, it is {args.idle_minutes:g}")
    with lifecycle.statefile.lock():
        local = lifecycle.find_registered()
        verb = "runs already" if local else "runs"
        local = local or lifecycle.start(
            owned=False, idle_minutes=args.idle_minutes, time_scale=args.time_scale, lambda_concurrency=args.lambda_concurrency
        )
    print(f"The local AWS {verb} at {local.endpoint_url} (process {local.pid}).")
    print(f"Use it:  {USE}\nStop it: python -m opml local stop")
    return 0


def env(_args: argparse.Namespace) -> int:
    """Print shell commands that turn a shell to the running server."""
    local = _running()
    misleading = sorted({*client.MISLEADING, *(name for name in os.environ if client.is_misleading(name))})
    print(f"unset {' '.join(misleading)}")
    for name, value in client.settings_for(local, os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def status(_args: argparse.Namespace) -> int:
    """Say where the server is, since when, what it runs and how much memory that takes."""
    local = lifecycle.find_registered()
    if local is None:
        print(f"The local AWS is not running. Start it: {lifecycle.STARTER}")
        return NOT_RUNNING
    processes = [psutil.Process(local.reaper_pid), *procs.marked(local.server_id)]
    print(f"endpoint   {local.endpoint_url}")
    print(f"since      {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(local.started))} ({_spell(lifecycle.uptime(local))})")
    for line in _work(local):
        print(line)
    print(f"processes  {len(processes)}, {sum(map(_memory, processes)) / 2**20:.0f} MB")
    return 0


def stop(_args: argparse.Namespace) -> int:
    """End the running server."""
    local = lifecycle.find_registered()
    if local is None:
        print("The local AWS is not running.")
        return 0
    local.stop()
    print(f"The local AWS at {local.endpoint_url} has ended, with all it had started.")
    return 0


def run_command(args: argparse.Namespace) -> int:
    """Run a command with a server of its own and hand on its exit status."""
    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    if not words:
        raise BadInput("nothing to run. Say: python -m opml local run -- COMMAND ...")
    local = lifecycle.start(register=False)
    try:
        return _supervise(words, _command_env(local))
    finally:
        local.stop()


def _command_env(local: LocalAws) -> dict[str, str]:
    """Ours plus the server's mark: if this process is killed, the server ends and takes the command with it."""
    environ = dict(os.environ)
    client.apply(local, environ)
    return {**environ, OWNED_BY: local.server_id}


def _supervise(words: list[str], environ: dict[str, str]) -> int:
    """Run a child in the foreground, pass SIGTERM and SIGHUP on to it (Ctrl-C reaches it by itself), and wait for its end."""
    try:
        child = subprocess.Popen(words, env=environ)
    except OSError as error:
        raise BadInput(f"cannot run {words[0]}: {error.strerror}") from None
    passed_on = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda given, _frame: child.send_signal(given)) for number in passed_on}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)  # the child has it too and decides
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _running() -> LocalAws:
    local = lifecycle.find_registered()
    if local is None:
        raise LocalAwsError(f"the local AWS is not running. Start it: {lifecycle.STARTER}")
    return local


def _work(local: LocalAws) -> list[str]:
    """Jobs and endpoints, counted by status."""
    sagemaker = local.client("sagemaker")
    jobs = sagemaker.get_paginator("list_training_jobs").paginate().search("TrainingJobSummaries[].TrainingJobStatus")
    endpoints = sagemaker.get_paginator("list_endpoints").paginate().search("Endpoints[].EndpointStatus")
    return [f"jobs       {_counted(jobs)}", f"endpoints  {_counted(endpoints)}"]


def _counted(statuses) -> str:
    found = list(statuses)
    return ", ".join(f"{found.count(name)} {name}" for name in sorted(set(found))) or "none"


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0  # has just ended


def _spell(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
