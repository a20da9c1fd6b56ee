"""What a rule does when it fires: stop training jobs; e-mails and text messages are not sent from here.

``action_json`` is what ``smdebug_rulesconfig`` writes: a list of ``{"name": "stoptraining", "training_job_prefix": ...}``, and of ``email``
or ``sms`` with an ``endpoint``, with quotes escaped for the command line of AWS's evaluator.
"""

import json
from collections.abc import Callable

import boto3


def parse(action_json: str | None) -> list[dict[str, str]]:
    """The actions of a rule; ``ValueError`` for what is none.

    Examples
    --------
    >>> parse('{\\\\"name\\\\": \\\\"sms\\\\", \\\\"endpoint\\\\": \\\\"+1\\\\"}')
    [{'name': 'sms', 'endpoint': '+1'}]
    """
    if not (action_json or "").strip():
        return []
    found = json.loads(action_json.replace('\\"', '"'))
    actions = [_flat(action) for action in (found if isinstance(found, list) else [found])]
    for action in actions:
        wanted = {"stoptraining": "training_job_prefix", "email": "endpoint", "sms": "endpoint"}.get(action["name"])
        if wanted is None or not action.get(wanted):
            raise ValueError(f"{action} is no action: stoptraining with training_job_prefix, or email or sms with endpoint")
    return actions


def _flat(action: object) -> dict[str, str]:
    """Name in lower case, and parameters beside it, whether or not they came in a dictionary of their own."""
    if not isinstance(action, dict) or not isinstance(action.get("parameters") or {}, dict):
        raise ValueError(f"{action!r} is no action: give an object with a name and its parameters")
    return {**action, **(action.get("parameters") or {}), "name": str(action.get("name", "")).lower()}


def act(action: dict[str, str], rule: str, say: Callable[[str], None]) -> None:
    """Do it, with the rights of the job's role; ``say`` gets a line on what was done."""
    if action["name"] != "stoptraining":
        say(f"local AWS: rule {rule} fired; no {action['name']} is sent to {action['endpoint']}")
        return
    client, prefix = boto3.client("sagemaker"), action["training_job_prefix"]
    running = client.list_training_jobs(NameContains=prefix, StatusEquals="InProgress", SortBy="CreationTime", SortOrder="Descending")
    names = [job["TrainingJobName"] for job in running["TrainingJobSummaries"] if job["TrainingJobName"].startswith(prefix)]
    if len(names) != 1:  # as AWS's evaluator: a prefix must mean one job
        say(f"rule {rule} fired, but {len(names)} training jobs in progress begin with {prefix}: none is stopped")
        return
    client.stop_training_job(TrainingJobName=names[0])
    say(f"rule {rule} fired: training job {names[0]} is stopped")
