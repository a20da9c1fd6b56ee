"""Jobs with Debugger: a script that knows nothing of smdebug, and requests as the SDK sends them."""

from training_jobs import Jobs

PLAIN = """
import os, sys, torch, torch.nn as nn
from collections import OrderedDict
torch.manual_seed(0)
steps = int(sys.argv[sys.argv.index("--steps") + 1]) if "--steps" in sys.argv else 12
net = nn.Sequential(OrderedDict(hidden=nn.Linear(4, 8), relu=nn.ReLU(), fc=nn.Linear(8, 3)))
prepare, criterion = nn.Identity(), nn.CrossEntropyLoss()  # torchvision's transforms are modules too
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(steps):
    x = prepare(torch.randn(16, 4))
    optimizer.zero_grad()
    loss = criterion(net(x), (x[:, 0] > 0).long())
    loss.backward()
    optimizer.step()
print("trained", flush=True)
torch.save(net.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pth"))
"""
OLD = "123456789012.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:1.8-cpu-py36"
NEW = OLD.replace("1.8-cpu-py36", "2.12-cpu-py312")
LOSS = "CrossEntropyLoss_output_0"


def debugged(jobs: Jobs, *, image: str = OLD, rules=(), collections=(("losses", {"save_interval": "2"}),), hook=True, **options) -> dict:
    """Members of a request beside those of ``Jobs.request``."""
    algorithm = {"TrainingImage": image, "TrainingInputMode": "File"}
    config = {
        "S3OutputPath": f"s3://{jobs.bucket}/debug",
        "CollectionConfigurations": [{"CollectionName": name, "CollectionParameters": values} for name, values in collections],
    }
    asked = {"AlgorithmSpecification": algorithm, **({"DebugHookConfig": config} if hook else {}), **options}
    return asked | ({"DebugRuleConfigurations": list(rules)} if rules else {})


def rule(invoked: str, name: str | None = None, **parameters: str) -> dict:
    """An element of ``DebugRuleConfigurations``."""
    given = {"rule_to_invoke": invoked, **parameters}
    return {"RuleConfigurationName": name or invoked, "RuleEvaluatorImage": "rules:latest", "RuleParameters": given}


def rule_log(jobs: Jobs, job: dict, name: str) -> list[str]:
    """The log of a rule's evaluation."""
    entry = next(entry for entry in job["DebugRuleEvaluationStatuses"] if entry["RuleConfigurationName"] == name)
    group = {"logGroupName": "/aws/sagemaker/ProcessingJobs"}
    prefix = entry["RuleEvaluationJobArn"].rpartition("/")[2]
    stream = jobs.logs.describe_log_streams(**group, logStreamNamePrefix=prefix)["logStreams"][0]["logStreamName"]
    return [event["message"] for event in jobs.logs.get_log_events(**group, logStreamName=stream, startFromHead=True)["events"]]


def keys(jobs: Jobs, prefix: str) -> list[str]:
    """The names of all objects below a prefix, without it."""
    pages = jobs.s3.get_paginator("list_objects_v2").paginate(Bucket=jobs.bucket, Prefix=prefix)
    return [entry["Key"][len(prefix) :] for page in pages for entry in page.get("Contents", [])]


def statuses(job: dict) -> dict[str, tuple[str, str]]:
    """Rule -> (status, details)."""
    found = job.get("DebugRuleEvaluationStatuses", []) + job.get("ProfilerRuleEvaluationStatuses", [])
    return {entry["RuleConfigurationName"]: (entry["RuleEvaluationStatus"], entry.get("StatusDetails", "")) for entry in found}
