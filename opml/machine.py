"""What a process that we start may know of this machine: enough to run, and none of its user's secrets."""

import os

# No AWS_*, no SM_*: a script must not see real keys, nor notice that it does not run in its container or on EC2.
NEEDED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "OMP_NUM_THREADS",
)


def environment(*also: str) -> dict[str, str]:
    """The variables that programs need, and those named, as far as they are set; output is not held back."""
    return {name: os.environ[name] for name in (*NEEDED, *also) if name in os.environ} | {"PYTHONUNBUFFERED": "1"}
