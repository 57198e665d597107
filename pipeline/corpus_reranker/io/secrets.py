"""Keeps secrets out of messages, logs and the output. Imports no pyarrow: the config uses it."""

from collections.abc import Mapping
from typing import Any

_SECRETS = ("credential", "key", "password", "secret", "token")
"""Parts of the names of options with secrets. Sources: py.iceberg.apache.org/configuration, docs.rs/object_store."""


def redact(url: str) -> str:
    """`url` without user, password and query string, for messages and logs."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def secret_option(options: Mapping[str, Any]) -> str | None:
    """The name of an option that may hold a secret; None if there is none. The output stores the config."""
    for name, value in options.items():
        named_so = any(secret in name.lower().replace("kms-key", "").replace("kms_key", "") for secret in _SECRETS)
        if named_so or redact(str(value)) != str(value):
            return name
    return None
