"""What one running local AWS knows about itself: one object, filled in once when the server starts."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's account; every public example of AWS uses it too
OWNED_BY = "OPML_OWNED_BY"  # environment variable that marks each process this server started, so that none can be lost
PACKAGE_ROOT = Path(__file__).resolve().parents[2]  # the folder that holds opml/: on the path of every Python we start

_KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def _access_key_id() -> str:
    return "AKIA" + "".join(secrets.choice(_KEY_LETTERS) for _ in range(16))


@dataclass
class Settings:
    """The running server. ``owner_*`` are the credentials made for it: the account's owner, allowed everything."""

    root: Path = Path(".")  # working folder: jobs, endpoints, functions; removed at the end
    endpoint_url: str = ""
    region: str = REGION
    account: str = ACCOUNT
    role_arn: str = ""  # the account's default SageMaker execution role
    bucket: str = ""  # the account's default SageMaker bucket
    server_id: str = field(default_factory=lambda: secrets.token_hex(8))
    owner_access_key_id: str = field(default_factory=_access_key_id)
    owner_secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30), repr=False)
    max_parallel_instances: int = 4  # training processes at one time; further jobs wait in "Starting"
    time_scale: float = 60.0  # real seconds per simulated minute: alarms, cooldowns and retries obey it
    lambda_concurrency: int = 1000  # concurrent executions of the account in the region; new accounts have 10

    @property
    def lambda_floor(self) -> int:
        """What reservations must leave to the other functions."""
        return min(100, self.lambda_concurrency)

    def real_seconds(self, simulated: float) -> float:
        """How long so many seconds of AWS's time are here."""
        return simulated * self.time_scale / 60


settings = Settings()
