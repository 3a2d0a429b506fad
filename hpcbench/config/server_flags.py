"""Options of tritonserver that a campaign adds to those that hpcbench gives."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator

from hpcbench.config.values import check_line

_FLAG = re.compile(r"--([a-z][a-z0-9-]*)(=.+)?")

_OWN = re.compile(
    r"model-(repository|store|control-mode)|load-model|repository-poll-secs|id|exit-.*|help|version"
    r"|(reuse-)?(http|grpc|metrics)-(port|address)|allow-(http|grpc|metrics|cpu-metrics|gpu-metrics)"
    r"|strict-.*|disable-auto-complete-config|log-.*|trace-.*|backend-directory|repoagent-directory"
    r"|http-restricted-api|grpc-restricted-protocol|(http|grpc)-.*(ssl|cert|key).*"
)
"""Those that hpcbench gives itself, or could not measure with."""


def flag_name(flag: str) -> str:
    """Return the name of an option.

    Parameters
    ----------
    flag
        As in "--rate-limit=execution_count".

    Returns
    -------
    str
        As in "--rate-limit".
    """
    return flag.partition("=")[0]


def _server_flag(flag: Any) -> Any:
    if not isinstance(flag, str):
        return flag
    found = _FLAG.fullmatch(check_line(flag))
    if not found:
        raise ValueError("must be one option of tritonserver with its value, as in --name=value")
    if _OWN.fullmatch(found[1]):
        raise ValueError(f"--{found[1]} is hpcbench's own: it starts, watches and asks the server")
    return flag


ServerFlag = Annotated[str, AfterValidator(_server_flag)]
