"""What one running local AWS knows about itself: one object, filled in once when the server starts."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path

REGION = "us-east-1"
ACCOUNT = "123456789012"  # moto's account; every public example of AWS uses it too
OWNED_BY = "OPML_OWNED_BY"  # environment variable that marks each process this server started, so that none can be lost


@dataclass
class Settings:
    """The running server. ``owner_*`` are the credentials made for it: the account's owner, allowed everything."""

    root: Path = Path(".")  # working folder: jobs, endpoints, functions; removed at the end
    endpoint_url: str = ""
    region: str = REGION
    account: str = ACCOUNT
    server_id: str = field(default_factory=lambda: secrets.token_hex(8))
    owner_access_key_id: str = field(
        default_factory=lambda: "AKIA" + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
    )
    owner_secret_access_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    max_parallel_instances: int = 4  # training processes at one time; further jobs wait in "Starting"


settings = Settings()
