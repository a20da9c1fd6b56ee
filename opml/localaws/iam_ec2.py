"""EC2's requests in IAM's terms: which resources an operation touches, its condition keys, and the roles of an instance profile."""

import re

from moto.iam.models import iam_backends

from opml.localaws.iam_policy import Context
from opml.localaws.settings import settings

# Prefix of an id -> resource type.
TYPES = {
    "i": "instance", "ami": "image", "sg": "security-group", "subnet": "subnet", "vpc": "vpc", "vol": "volume", "eni": "network-interface",
    "snap": "snapshot", "lt": "launch-template", "igw": "internet-gateway", "rtb": "route-table", "eipalloc": "elastic-ip",
    "key": "key-pair",
}  # fmt: skip
NEW = {
    "RunInstances": ("instance", "volume", "network-interface"), "CreateSecurityGroup": ("security-group",), "CreateVolume": ("volume",),
    "CreateLaunchTemplate": ("launch-template",), "CreateVpc": ("vpc",), "CreateSubnet": ("subnet",),
}  # fmt: skip


def arn(kind: str, name: str) -> str:
    """The ARN of a resource; images belong to no account here."""
    account = "" if kind == "image" else settings.account
    return f"arn:aws:ec2:{settings.region}:{account}:{kind}/{name}"


def resources(response, operation: str, _parameters: dict) -> list[str]:
    """New ones by ``TYPE/*``, known ones by their ids, wherever the request names them; Describe and Get know no resources."""
    if operation.startswith(("Describe", "Get")):
        return ["*"]
    found = [arn(kind, "*") for kind in NEW.get(operation, ())]
    values = [(name, value[0] if isinstance(value, list) else value) for name, value in response.querystring.items()]
    for name, value in values:
        if named := re.fullmatch(r"([a-z]+)-[0-9a-f]{8,17}", str(value)):
            found += [arn(TYPES[named[1]], value)] if named[1] in TYPES else []
        elif name == "KeyName":
            found.append(arn("key-pair", value))
    return list(dict.fromkeys(found)) or ["*"]


def context(_operation: str, parameters: dict) -> Context:
    """Instance type and the metadata service's version of a request to launch."""
    keys: Context = {"ec2:region": settings.region}
    metadata = parameters.get("MetadataOptions") or {}
    told = {
        "ec2:instancetype": parameters.get("InstanceType"), "ec2:metadatahttptokens": metadata.get("HttpTokens"),
        "ec2:metadatahttpendpoint": metadata.get("HttpEndpoint"), "ec2:createaction": _operation,
    }  # fmt: skip
    return keys | {key: str(value) for key, value in told.items() if value}


def request_tags(parameters: dict, arns: list[str]) -> dict[str, Context]:
    """ARN -> condition keys of the tags that the request gives to this resource: those of a volume are not the instance's."""
    return {
        arn: _tag_keys([one for one in _specifications(parameters) if arn == "*" or one.get("ResourceType") == _kind(arn)]) for arn in arns
    }


def _tag_keys(specifications: list[dict]) -> Context:
    tags = [tag for one in specifications for tag in one.get("Tags") or one.get("Tag") or []]
    keys: Context = {f"aws:requesttag/{tag['Key'].lower()}": tag.get("Value", "") for tag in tags}
    return keys | ({"aws:tagkeys": [tag["Key"] for tag in tags]} if tags else {})


def _kind(arn: str) -> str:
    """The resource type in an ARN."""
    return arn.rpartition(":")[2].partition("/")[0]


def tags_of(arns: list[str]) -> Context:
    """The tags of the one known resource that a request is about; of several, a policy would have to be asked one by one."""
    named = [arn.rpartition("/")[2] for arn in arns if not arn.endswith("*")]
    if len(named) != 1:
        return {}
    from moto.ec2.models import ec2_backends  # takes a second

    tags = ec2_backends[settings.account][settings.region].tags.get(named[0], {})
    return {f"{prefix}:resourcetag/{key.lower()}": value for key, value in tags.items() for prefix in ("aws", "ec2")}


def tagged(parameters: dict, checks: list[tuple[str, str]]) -> list[str]:
    """The ARNs, of those that are checked, that a request to create also tags."""
    kinds = {one.get("ResourceType") for one in _specifications(parameters)}
    return [resource for _, resource in checks if _kind(resource) in kinds]


def roles_passed(operation: str, parameters: dict) -> list[str]:
    """The ARNs of the roles in the instance profile of a request."""
    if operation not in ("RunInstances", "AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"):
        return []
    wanted = parameters.get("IamInstanceProfile") or {}
    profiles = iam_backends[settings.account]["aws"].instance_profiles.values()
    named = [one for one in list(profiles) if one.name == wanted.get("Name") or one.arn == wanted.get("Arn")]
    return [role.arn for profile in named for role in profile.roles]


def _specifications(parameters: dict) -> list[dict]:
    return [one for one in parameters.get("TagSpecifications") or parameters.get("TagSpecification") or [] if isinstance(one, dict)]
