"""Who sends a request: the account's owner, an IAM user, or a session of a role, with all policies that bear on them, from moto's state."""

from dataclasses import dataclass

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from opml.localaws.iam_policy import Grants, parse
from opml.localaws.settings import settings


@dataclass(frozen=True)
class Principal:
    """``arn`` is what AWS's messages show; ``entity_arn`` the user or role that the policies hang on; ``grants`` None for the owner."""

    arn: str
    entity_arn: str
    kind: str  # "Root", "IAMUser" or "AssumedRole", as CloudTrail writes it
    name: str  # of the user, or of the session
    user_id: str
    grants: Grants | None
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def identities(self) -> set[str]:
        """The names under which a resource-based or trust policy may mean this principal; the account stands for all of its own."""
        return {self.arn, self.entity_arn, settings.account, f"arn:aws:iam::{settings.account}:root"}

    @property
    def exact_identities(self) -> set[str]:
        """The same without the account."""
        return {self.arn, self.entity_arn}


def owner() -> Principal:
    """The account's owner, allowed everything."""
    root = f"arn:aws:iam::{settings.account}:root"
    return Principal(root, root, "Root", "root", settings.account, None)


def of_key(access_key_id: str) -> Principal:
    """The principal of an access key that the signature gate has let in; ``LookupError`` if user, session or role are gone."""
    if access_key_id == settings.owner_access_key_id:
        return owner()
    session = next(
        (one for one in reversed(sts_backends[settings.account]["aws"].assumed_roles) if one.access_key_id == access_key_id), None
    )
    if session is not None:
        return of_role(session.role_arn, session.session_name, session.policy)
    for user in list(_iam().users.values()):
        if any(key.access_key_id == access_key_id for key in list(user.access_keys)):
            return _of_user(user)
    raise LookupError(f"access key {access_key_id} belongs to nobody")


def of_role(role_arn: str, session_name: str, session_policy: str | None = None) -> Principal:
    """A session of a role; ``LookupError`` if there is no such role."""
    role = role_of(role_arn)
    arn = f"arn:aws:sts::{settings.account}:assumed-role/{role.name}/{session_name}"
    grants = Grants(_documents(role), _boundary(role), (parse(session_policy),) if session_policy else None)
    return Principal(arn, role.arn, "AssumedRole", session_name, f"{role.id}:{session_name}", grants, _tags(role))


def of_entity(arn: str) -> Principal:
    """The user or role of an ARN; ``LookupError`` if there is none."""
    user = next((user for user in list(_iam().users.values()) if user.arn == arn), None)
    return of_role(arn, "simulated") if user is None else _of_user(user)


def role_of(role_arn: str):
    """moto's role of an ARN; ``LookupError`` if there is none."""
    role = next((role for role in list(_iam().roles.values()) if role.arn == role_arn), None)
    if role is None:
        raise LookupError(f"role {role_arn} does not exist")
    return role


def policy_text(policy) -> str:
    """The document of a managed policy, in its default version."""
    return next(version.document for version in policy.versions if version.version_id == policy.default_version_id)


def trust(role) -> dict:
    """A role's trust policy."""
    document = role.assume_role_policy_document
    return parse(document) if isinstance(document, str) else document


def _of_user(user) -> Principal:
    groups = [group for group in list(_iam().groups.values()) if user in group.users]
    documents = tuple(document for owner in (user, *groups) for document in _documents(owner))
    return Principal(user.arn, user.arn, "IAMUser", user.name, user.id, Grants(documents, _boundary(user)), _tags(user))


def _documents(holder) -> tuple[dict, ...]:
    texts = [*list(holder.policies.values()), *(policy_text(policy) for policy in list(holder.managed_policies.values()))]
    return tuple(parse(text) if isinstance(text, str) else text for text in texts)


def _boundary(holder) -> tuple[dict, ...] | None:
    arn = getattr(holder, "permissions_boundary_arn", None)
    if not arn:
        return None
    policy = _iam().managed_policies.get(arn)
    return () if policy is None else (parse(policy_text(policy)),)


def _tags(holder) -> tuple[tuple[str, str], ...]:
    tags = getattr(holder, "tags", None) or []  # moto keeps those of users elsewhere
    tags = tags.values() if isinstance(tags, dict) else tags
    return tuple((tag["Key"], tag["Value"]) for tag in tags)


def _iam():
    return iam_backends[settings.account]["aws"]
