"""How clients get at a server, and what of the environment is between: proxies and certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

from hippotune.checks import server_address

C = TypeVar("C", httpx.Client, httpx.AsyncClient)


def opened(kind: Callable[..., C], url: str, headers: Mapping[str, str]) -> C:
    """A client of httpx for a server.

    Raises ValueError for an address that cannot be one, and for what the environment names and is not there.
    """
    try:
        return kind(base_url=server_address(url), headers=headers, trust_env=not on_this_machine(url))
    except ImportError as error:
        raise ValueError(f"the environment names a SOCKS proxy: {error}") from None
    except OSError as error:  # read even where no certificate is needed
        raise ValueError(
            f"the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: {error}"
        ) from None


def on_this_machine(url: str) -> bool:
    """Whether a server is this machine's own, without TLS: no proxy reaches that, and no certificate is needed."""
    parts = httpx.URL(url)
    if parts.scheme != "http":
        return False
    try:
        return ipaddress.ip_address(parts.host).is_loopback
    except ValueError:
        return parts.host == "localhost"


def proxy_for(url: httpx.URL) -> str | None:
    """The proxy of the environment that such a call goes by, without the password that its address may hold."""
    if on_this_machine(str(url)) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    named = proxies.get(url.scheme) or proxies.get("all")
    return named and named.rpartition("@")[2]
