"""Plain HTTP to our own processes, for starting and checking them."""

import base64
import http.client
from collections.abc import Mapping
from urllib.parse import urlsplit


def request(
    method: str,
    url: str,
    body: bytes | None = None,
    login: tuple[str, str] | None = None,
    timeout: float = 5,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Send one request; return status and body. Raises OSError if there is no answer."""
    parts = urlsplit(url)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    sent |= headers or {}
    if login:
        sent["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
    try:
        connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url}: {error!r}") from error
    finally:
        connection.close()


def answers(url: str, login: tuple[str, str] | None = None) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return request("GET", url, login=login)[0] == 200
    except OSError:
        return False
