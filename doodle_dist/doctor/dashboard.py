"""How Ray's dashboard meets a client: with the client's token, and with none."""

import os
import urllib.error
import urllib.request
from pathlib import Path

from doodle_dist.doctor.facts import DashboardFacts

_TIMEOUT_S = 10.0


def find_token() -> str:
    """The token that Ray would use: RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token; or none.

    It is a secret: it goes into a request's header and nowhere else.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def try_dashboard(url: str, token: str) -> DashboardFacts:
    """Ask for the list of jobs twice. ``url`` like http://host:8265; empty: there is no dashboard."""
    if not url:
        return DashboardFacts()
    bare, error = _status(url, "")
    if error:
        return DashboardFacts(url, error=error)
    return DashboardFacts(url, _status(url, token)[0] if token else bare, bare)


def _status(url: str, token: str) -> tuple[int, str]:
    """(HTTP status, "") or (0, what went wrong)."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{url.rstrip('/')}/api/jobs/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as answer:
        return answer.code, ""
    except (urllib.error.URLError, OSError) as error:
        return 0, str(getattr(error, "reason", error))
