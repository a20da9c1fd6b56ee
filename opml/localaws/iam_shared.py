"""What every check of permissions needs: condition keys of a principal, policies of a resource, AWS's words of refusal."""

from datetime import UTC, datetime

from moto.s3.models import s3_backends

from opml.localaws.iam_policy import Context, as_list, naming, parse
from opml.localaws.iam_principals import Principal
from opml.localaws.settings import settings


def of_principal(principal: Principal) -> Context:
    """The global condition keys (IAM user guide, "AWS global condition context keys")."""
    now = datetime.now(UTC)
    context: Context = {
        "aws:principalarn": principal.entity_arn, "aws:principalaccount": settings.account, "aws:userid": principal.user_id,
        "aws:principaltype": "User" if principal.kind == "IAMUser" else principal.kind, "aws:requestedregion": settings.region,
        "aws:sourceip": "127.0.0.1", "aws:currenttime": f"{now:%Y-%m-%dT%H:%M:%SZ}", "aws:epochtime": str(int(now.timestamp())),
        "aws:resourceaccount": settings.account, "aws:viaawsservice": "false",
        "aws:securetransport": "true",  # AWS's end points speak TLS; a policy that insists on it must not lock its owner out here
    }  # fmt: skip
    if principal.kind == "IAMUser":
        context["aws:username"] = principal.name
    return context | {f"aws:principaltag/{key.lower()}": value for key, value in principal.tags}


def policies(principal: Principal, resource: str) -> list[dict]:
    """The bucket's policy, as far as it is about this principal: it may deny for the whole account, but grant only to who is named."""
    if not resource.startswith("arn:aws:s3:::"):
        return []
    bucket = s3_backends[settings.account]["aws"].buckets.get(resource.removeprefix("arn:aws:s3:::").partition("/")[0])
    if bucket is None or not bucket.policy:
        return []
    document = parse(bucket.policy.decode() if isinstance(bucket.policy, bytes) else bucket.policy)
    denies = [one for one in as_list(naming(document, {"AWS": principal.identities})["Statement"]) if one["Effect"] == "Deny"]
    return [naming(document, {"AWS": principal.exact_identities}), {"Statement": denies}]


def refusal(principal: Principal, action: str, resource: str, reason: str) -> str:
    """AWS's sentence. S3 puts the resource in quotes; where no resource is known, none is named."""
    quoted = f'"{resource}"' if action.startswith("s3:") else resource
    place = "" if resource == "*" and not action.startswith("lambda:") else f" on resource: {quoted}"
    return f"User: {principal.arn} is not authorized to perform: {action}{place}{' ' if reason else ''}{reason}"
