"""Endpoint auto-scaling and Lambda concurrency: requests to send, and the arithmetic behind their numbers.

Nothing here calls AWS. The requests are dictionaries for ``application-autoscaling`` and ``lambda``; the notebook sends them.
"""

import math

from opml.errors import BadInput

NAMESPACE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
METRIC = "SageMakerVariantInvocationsPerInstance"
UNRESERVED_MINIMUM = 100  # Lambda refuses a reservation that leaves fewer than this to the account's other functions


def target_value(max_rps: float, safety_factor: float = 0.5) -> float:
    """The target of the policy: invocations per instance per *minute*.

    ``target = max_rps * safety_factor * 60`` (SageMaker developer guide, "Load testing your auto scaling configuration").

    Parameters
    ----------
    max_rps : float
        Requests a second that one instance answers before latency rises; measured on one instance.
    safety_factor : float
        Share of it to plan with, above 0 and at most 1; AWS suggests to start with 0.5, because a new instance takes minutes.

    Raises
    ------
    BadInput
        A rate that is not positive, or a factor outside (0, 1].
    """
    _positive(max_rps=max_rps)
    if not 0 < safety_factor <= 1:
        raise BadInput(f"safety_factor is a share above 0 and at most 1, not {safety_factor}")
    return max_rps * safety_factor * 60


def resource_id(endpoint_name: str, variant: str = "AllTraffic") -> str:
    """How auto-scaling names a variant of an endpoint."""
    return f"endpoint/{endpoint_name}/variant/{variant}"


def _ids(endpoint_name: str, variant: str) -> dict[str, str]:
    return {"ServiceNamespace": NAMESPACE, "ResourceId": resource_id(endpoint_name, variant), "ScalableDimension": DIMENSION}


def scalable_target_request(
    endpoint_name: str, variant: str = "AllTraffic", min_capacity: int = 1, max_capacity: int = 3, tags: list[dict] | None = None
) -> dict:
    """Arguments of ``register_scalable_target``: between how many instances the variant may be scaled.

    Raises
    ------
    BadInput
        Less than one instance (scaling to zero works only with inference components), or a minimum above the maximum.
    """
    if not 1 <= min_capacity <= max_capacity:
        raise BadInput(f"capacity must be 1 <= minimum <= maximum, not {min_capacity} to {max_capacity} (a variant cannot scale to zero)")
    request = {**_ids(endpoint_name, variant), "MinCapacity": min_capacity, "MaxCapacity": max_capacity}
    return {**request, "Tags": {tag["Key"]: tag["Value"] for tag in tags}} if tags else request


def target_tracking_request(
    endpoint_name: str,
    target: float,
    *,
    variant: str = "AllTraffic",
    scale_out_cooldown: int = 60,
    scale_in_cooldown: int = 300,
    policy_name: str | None = None,
) -> dict:
    """Arguments of ``put_scaling_policy``: hold the invocations per instance per minute at ``target``.

    AWS makes two alarms of it: out after 3 minutes above the target, in after 15 minutes below 0.9 x target.

    Parameters
    ----------
    target : float
        Invocations per instance per minute, see :func:`target_value`.
    scale_out_cooldown, scale_in_cooldown : int
        Seconds to wait after a step before the next one in the same direction; AWS's default is 300 for both.

    Raises
    ------
    BadInput
        A target that is not positive, or a negative cooldown.
    """
    _positive(target=target)
    if min(scale_out_cooldown, scale_in_cooldown) < 0:
        raise BadInput(f"cooldowns are seconds, 0 or more, not {scale_out_cooldown} and {scale_in_cooldown}")
    return {
        "PolicyName": policy_name or f"{endpoint_name}-invocations",
        "PolicyType": "TargetTrackingScaling",
        **_ids(endpoint_name, variant),
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": float(target),
            "PredefinedMetricSpecification": {"PredefinedMetricType": METRIC},
            "ScaleOutCooldown": scale_out_cooldown,
            "ScaleInCooldown": scale_in_cooldown,
            "DisableScaleIn": False,
        },
    }


def desired_instances(load: float, target: float, min_capacity: int = 1, max_capacity: int = 3) -> int:
    """Instances that target tracking settles on: ``ceil(load / target)``, held between minimum and maximum.

    With n instances each sees m = load / n, and auto-scaling asks for ceil(n * m / target) (Application Auto Scaling user guide).

    Parameters
    ----------
    load : float
        Invocations a minute, all instances together.
    """
    _positive(target=target)
    return min(max(math.ceil(load / target), min_capacity), max_capacity)


def concurrency(rps: float, seconds: float) -> float:
    """Calls in progress at one time, on average: ``rps * seconds`` (Little's law; the Lambda guide's formula)."""
    if rps < 0 or seconds < 0:
        raise BadInput(f"a rate and a duration are 0 or more, not {rps} and {seconds}")
    return rps * seconds


def throttled_share(erlangs: float, reserved: int) -> float:
    """Share of calls that a function refuses with 429, between 0 and 1.

    A function with reserved concurrency is a loss system: a call that finds all places taken is turned away. With random
    (Poisson) arrivals the share is Erlang's B formula, here by the recurrence ``B(k) = a B(k-1) / (k + a B(k-1))``, ``B(0) = 1``;
    it depends on the mean duration only. Callers that retry add load, which the formula does not know.

    Parameters
    ----------
    erlangs : float
        Offered load, the mean number of calls in progress if none were refused: :func:`concurrency`.
    reserved : int
        Reserved concurrency; 0 stops the function.
    """
    if erlangs < 0 or reserved < 0:
        raise BadInput(f"load and reserved concurrency are 0 or more, not {erlangs} and {reserved}")
    share = 1.0
    for places in range(1, reserved + 1):
        share = erlangs * share / (places + erlangs * share)
    return share


def reserve_for(rps: float, seconds: float, tolerated: float = 0.01) -> int:
    """The smallest reserved concurrency that refuses at most the ``tolerated`` share of calls.

    Raises
    ------
    BadInput
        A tolerated share outside (0, 1).
    """
    if not 0 < tolerated < 1:
        raise BadInput(f"tolerated is a share between 0 and 1, not {tolerated}")
    load, reserved = concurrency(rps, seconds), 1
    while throttled_share(load, reserved) > tolerated:
        reserved += 1
    return reserved


def reserved_concurrency_request(function_name: str, reserved: int, account_limit: int = 1000) -> dict:
    """Arguments of ``put_function_concurrency``: the function's share of the account, a guarantee and a cap in one.

    Parameters
    ----------
    account_limit : int
        The account's concurrency (``get_account_settings``): 1,000 by default, 10 in many new accounts.

    Raises
    ------
    BadInput
        A reservation that leaves fewer than 100 to the account's other functions, which Lambda refuses.
    """
    most = max(account_limit - UNRESERVED_MINIMUM, 0)
    if not 0 <= reserved <= most:
        raise BadInput(
            f"{reserved} of {account_limit} cannot be reserved: {UNRESERVED_MINIMUM} must stay for other functions, so at most {most}"
        )
    return {"FunctionName": function_name, "ReservedConcurrentExecutions": reserved}


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise BadInput(f"{name} must be above 0, not {value}")
