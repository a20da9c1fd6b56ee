"""What SageMaker tells a training container about Debugger and profiler: configuration files and variables, as pure functions.

File names, keys and defaults are those of the CreateTrainingJob API and of smdebug 1.0.34 (core/config_constants.py).
"""

import re
from pathlib import Path, PurePosixPath

from opml.localaws.mounts import ROOT

CONFIG = "input/config"
# Member of the request -> (configuration file, variable by which smdebug finds it, default LocalPath, folder below <S3OutputPath>/<job>/).
PRODUCTS = {
    "DebugHookConfig": ("debughookconfig.json", "SMDEBUG_CONFIG_FILE_PATH", f"{ROOT}/output/tensors", "debug-output"),
    "ProfilerConfig": ("profilerconfig.json", "SMPROFILER_CONFIG_PATH", f"{ROOT}/output/profiler", "profiler-output"),
    "TensorBoardOutputConfig": (
        "tensorboardoutputconfig.json", "TENSORBOARD_CONFIG_FILE_PATH", f"{ROOT}/output/tensorboard", "tensorboard-output"
    ),
}  # fmt: skip
RULE_OUTPUT = "rule-output"
MILLISECONDS = (100, 200, 500, 1000, 5000, 60000)  # the profiler's intervals
DEFAULT_MILLISECONDS = 500
RULES_DEFAULT = {"save_interval": "500"}  # what a rule of the SDK adds to its collections
ZERO_SCRIPT_CHANGE = "OPML_ZERO_SCRIPT_CHANGE"  # tells the job's Python to register smdebug's hook itself
PYTORCH = re.compile(r"pytorch-training:(\d+)\.(\d+)")


def is_profiled(request: dict) -> bool:
    """Whether system metrics are asked for; a request without a ``ProfilerConfig``, so without a place for them, does not."""
    config = request.get("ProfilerConfig")
    return config is not None and not config.get("DisableProfiler") and "S3OutputPath" in config


def local_path(request: dict, member: str) -> PurePosixPath:
    """Where in the container the script leaves what is uploaded."""
    config = request[member]
    where = (config.get("ProfilingParameters") or {}) if member == "ProfilerConfig" else config
    return PurePosixPath(where.get("LocalPath") or PRODUCTS[member][2])


def folder_in(base: Path, request: dict, member: str) -> Path:
    """The same in an instance's tree, of which ``base`` stands for ``/opt/ml``."""
    return base / local_path(request, member).relative_to(ROOT)


def fault(request: dict) -> str | None:
    """What cannot be done about a request's debugger and profiler, or None."""
    for member in PRODUCTS:
        if request.get(member) is None:
            continue
        path = local_path(request, member)
        if not path.is_relative_to(ROOT) or len(path.parts) < 4 or ".." in path.parts:
            return f"The local AWS keeps what Debugger saves below {ROOT} only: {member}'s LocalPath is {path}."
    for rule in (request.get("DebugRuleConfigurations") or []) + (request.get("ProfilerRuleConfigurations") or []):
        if "/" in rule["RuleConfigurationName"] or rule["RuleConfigurationName"] in (".", ".."):
            return f"The local AWS names folders by rules: RuleConfigurationName {rule['RuleConfigurationName']!r} cannot be one."
    interval = (request.get("ProfilerConfig") or {}).get("ProfilingIntervalInMilliseconds")
    if interval not in (None, *MILLISECONDS):
        return f"Invalid ProfilingIntervalInMilliseconds {interval}: valid values are {', '.join(map(str, MILLISECONDS))}."
    return None


def files(request: dict, root: str) -> dict[str, dict]:
    """File name in ``input/config`` -> content; ``root`` is what the script sees as ``/opt/ml``. None of what is not asked for."""
    return {PRODUCTS[member][0]: _content(request, member, root) for member in PRODUCTS if request.get(member) is not None}


def _content(request: dict, member: str, root: str) -> dict:
    path = str(PurePosixPath(root) / local_path(request, member).relative_to(ROOT))
    content = dict(request[member])
    if member == "ProfilerConfig":
        if content.get("ProfilingParameters"):  # without them smdebug profiles nothing: system metrics are sampled outside the script
            content["ProfilingParameters"] = {**content["ProfilingParameters"], "LocalPath": path}
        return {"ProfilingIntervalInMilliseconds": DEFAULT_MILLISECONDS, "DisableProfiler": False, **content}
    if member == "DebugHookConfig" and content.get("CollectionConfigurations"):
        content["CollectionConfigurations"] = in_order(content["CollectionConfigurations"])
    return {**content, "LocalPath": path}


def in_order(collections: list[dict]) -> list[dict]:
    """A request's collections, those that merely ask for what a rule brings along (every 500 steps) first.

    The SDK sends the collections of the hook and of all rules through a set: one name may come twice, in any order, and smdebug
    takes the last. On AWS chance decides; here what was written on purpose wins, which is one of AWS's outcomes.
    """
    return sorted(collections, key=lambda entry: _is_said_on_purpose(entry.get("CollectionParameters") or {}))


def _is_said_on_purpose(parameters: dict) -> bool:
    return {name: value for name, value in parameters.items() if name != "include_regex"} not in ({}, RULES_DEFAULT)


def environment(request: dict, root: str) -> dict[str, str]:
    """Variables of the script. Where ``/opt/ml`` is its own, smdebug's defaults are right; elsewhere they would be the machine's."""
    found = {} if root == ROOT else {variable: f"{root}/{CONFIG}/{name}" for name, variable, _, _ in PRODUCTS.values()}
    image = request["AlgorithmSpecification"].get("TrainingImage") or ""
    return found | ({ZERO_SCRIPT_CHANGE: "1"} if "DebugHookConfig" in request and is_hooked_without_change(image) else {})


def pytorch_version(image: str) -> tuple[int, int] | None:
    """(major, minor) of an AWS PyTorch training image, by its tag; None for any other image."""
    found = PYTORCH.search(image)
    return (int(found[1]), int(found[2])) if found else None


def is_hooked_without_change(image: str) -> bool:
    """Whether AWS's image hooked scripts that know nothing of smdebug: those of PyTorch 1.3 to 1.11."""
    return (1, 3) <= (pytorch_version(image) or (0, 0)) < (1, 12)
