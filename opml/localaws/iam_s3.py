"""S3's requests in IAM's terms: the action follows from method and sub-resource ("Actions, resources, and condition keys for S3")."""

import re
from urllib.parse import parse_qs, unquote

from opml.localaws.iam_policy import Context

# Sub-resource of a bucket's URL -> the noun of Get... and Put...; to delete most of them is to put nothing.
BUCKET = {
    "location": "BucketLocation", "lifecycle": "LifecycleConfiguration", "versioning": "BucketVersioning", "policy": "BucketPolicy",
    "policyStatus": "BucketPolicyStatus", "website": "BucketWebsite", "acl": "BucketAcl", "tagging": "BucketTagging",
    "logging": "BucketLogging", "cors": "BucketCORS", "notification": "BucketNotification", "accelerate": "AccelerateConfiguration",
    "publicAccessBlock": "BucketPublicAccessBlock", "encryption": "EncryptionConfiguration", "replication": "ReplicationConfiguration",
    "ownershipControls": "BucketOwnershipControls", "object-lock": "BucketObjectLockConfiguration", "inventory": "InventoryConfiguration",
    "requestPayment": "BucketRequestPayment", "metrics": "MetricsConfiguration", "analytics": "AnalyticsConfiguration",
}  # fmt: skip
OBJECT = {"acl": "ObjectAcl", "tagging": "ObjectTagging", "retention": "ObjectRetention", "legal-hold": "ObjectLegalHold"}
UPLOADS = {"GET": "ListMultipartUploadParts", "DELETE": "AbortMultipartUpload", "PUT": "PutObject", "POST": "PutObject"}
LISTED = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"}


def asked(response, resource: str) -> tuple[list[tuple[str, str]], Context]:
    """((action, resource) pairs, condition keys) of moto's S3 response; ``resource`` is the ARN that moto made of bucket and key."""
    query = parse_qs(response.parsed_url.query, keep_blank_values=True)
    method, headers = response.method, response.headers
    context: Context = {key: query[name][0] for name, key in LISTED.items() if name in query}
    for name in ("x-amz-acl", "x-amz-server-side-encryption", "x-amz-storage-class"):
        if headers.get(name):
            context[f"s3:{name}"] = headers[name]
    if resource == "arn:aws:s3:::*":
        return [("s3:ListAllMyBuckets", "*")], context
    if "/" not in resource:
        return _bucket(response, method, query, resource), context
    checks = [(f"s3:{_object_action(method, query)}", resource)]
    if source := headers.get("x-amz-copy-source"):
        checks.append(("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/').partition('?')[0]}"))
    return checks, context


def _bucket(response, method: str, query: dict, resource: str) -> list[tuple[str, str]]:
    if method == "POST" and "delete" in query:
        keys = re.findall(r"<Key>(.*?)</Key>", str(response.body), re.DOTALL)
        return [("s3:DeleteObject", f"{resource}/{_unescaped(key)}") for key in keys] or [("s3:DeleteObject", resource)]
    if method == "POST":
        return [("s3:PutObject", f"{resource}/*")]
    return [(f"s3:{_bucket_action(method, query)}", resource)]


def _bucket_action(method: str, query: dict) -> str:
    noun = next((noun for name, noun in BUCKET.items() if name in query), None)
    if noun in ("BucketPolicy", "BucketWebsite") and method == "DELETE":
        return f"Delete{noun}"
    if noun is not None:
        return f"{'Get' if method in ('GET', 'HEAD') else 'Put'}{noun}"
    if method in ("GET", "HEAD"):
        return "ListBucketMultipartUploads" if "uploads" in query else "ListBucketVersions" if "versions" in query else "ListBucket"
    return "DeleteBucket" if method == "DELETE" else "CreateBucket"


def _object_action(method: str, query: dict) -> str:
    if "uploadId" in query:
        return UPLOADS.get(method, "PutObject")
    verb = {"GET": "Get", "HEAD": "Get", "DELETE": "Delete"}.get(method, "Put")
    noun = next((noun for name, noun in OBJECT.items() if name in query), "Object")
    versioned = query.get("versionId", ["null"])[0] != "null" and verb != "Put"
    return f"{verb}{noun.replace('Object', 'ObjectVersion', 1) if versioned else noun}"


def _unescaped(text: str) -> str:
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&#13;", "\r"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return text
