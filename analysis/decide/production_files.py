"""Files that production takes: values of SuperSONIC's chart, a PSet of CMSSW, manifests, a command.

Each begins with the rows that its numbers come from, how sure they are, and what was not measured.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from hpcbench.analysis.decide.production import PROBE_PERIOD_S, Production
from hpcbench.analysis.decide.production_sources import CMSSW_TIMEOUT_S, comment
from hpcbench.analysis.decide.recommend import Recommendation, Row

_MODELS = "/models"
_BINARY = "/opt/tritonserver/bin/tritonserver"

_EXIT_TIMEOUT_S = 60

_GRACE_S = _EXIT_TIMEOUT_S + 30
"""Kubernetes kills a pod after 30 s by default, before Triton has answered what it has begun."""


def triton_command(best: Row, numbers: Production, head: str) -> str:
    """Return the command line of the server.

    Parameters
    ----------
    best
        The recommended configuration.
    numbers
        Its numbers.
    head
        What to begin with, from `production_sources.comment`.

    Returns
    -------
    str
        A shell script.
    """
    words = _server_words(best, numbers)
    return f'#!/bin/sh\n{head}exec {shlex.join(words)} "$@"\n'


def _server_words(best: Row, numbers: Production) -> list[str]:
    return [
        *("tritonserver", f"--model-repository={_MODELS}", "--model-control-mode=explicit"),
        # In this mode Triton loads by itself what an ensemble calls, and nothing else.
        *(f"--load-model={name}" for name in (best["model"], *numbers.needs)),
        f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
        *_flags(best),
    ]


def _flags(best: Row) -> list[str]:
    """Return the options with which the measured server was started, besides hpcbench's own."""
    text = best.get("server_flags")
    return list(json.loads(text)) if isinstance(text, str) else []


def supersonic_values(best: Row, numbers: Production, head: str) -> str:
    """Return values for SuperSONIC's Helm chart: helm upgrade -f values.yaml.

    Parameters
    ----------
    best
        The recommended configuration.
    numbers
        Its numbers.
    head
        What to begin with, from `production_sources.comment`.

    Returns
    -------
    str
        YAML; only what is known stands in it.
    """
    triton: dict[str, Any] = {
        "command": ["/bin/sh", "-c"],
        "args": [
            " \\\n".join(map(shlex.quote, [_BINARY, *_server_words(best, numbers)[1:]])) + "\n"
        ],
        "modelRepository": {"enabled": True, "mountPath": _MODELS},
    }
    if numbers.image:
        triton["image"] = numbers.image
    if resources := _resources(numbers, "M"):
        triton["resources"] = resources
    if numbers.startup_failures is not None:
        triton["startupProbe"] = {
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": numbers.startup_failures,
        }
        triton["readinessProbe"] = {"initialDelaySeconds": int(numbers.ready_median_s or 0)}
    content: dict[str, Any] = {"triton": triton}
    if numbers.server_load_threshold is not None:
        content = {"serverLoadThreshold": numbers.server_load_threshold, **content}
    if numbers.servers is not None:
        triton["replicas"] = numbers.servers + (numbers.spares or 0)
        content["keda"] = {"minReplicaCount": 1, "maxReplicaCount": triton["replicas"]}
    # Without a storageType the chart mounts an empty folder, and by default it does not scale.
    cluster = (
        "# Add triton.modelRepository.storageType (pvc, nfs or cvmfs-pvc): where your models are.\n"
        "# The threshold and the most replicas count with keda.enabled: true.\n"
    )
    return head + _threshold(numbers) + cluster + yaml.safe_dump(content, sort_keys=False)


def _threshold(numbers: Production) -> str:
    """Say where the chart's whole numbers take the threshold out of what was measured."""
    threshold, highest = numbers.server_load_threshold, numbers.queue_ms_high
    if threshold is None or highest is None or threshold <= highest:
        return ""
    times = f"{threshold / highest:.2g} times the highest" if highest else "more than any"
    return (
        f"# serverLoadThreshold {threshold}: the chart takes whole numbers from 1. This is {times} "
        "queue\n# that was measured, so that servers may be added too late.\n"
    )


def cmssw_pset(best: Row, numbers: Production, head: str) -> str:
    """Return the parameters of a TritonClient, and of a server of the TritonService.

    The parameters are those of ``fillPSetDescription`` in HeterogeneousCore/SonicTriton/src of
    cms-sw/cmssw (TritonClient.cc) and of ``fillDescriptions`` (TritonService.cc).

    Parameters
    ----------
    best
        The recommended configuration.
    numbers
        Its numbers.
    head
        What to begin with, from `production_sources.comment`.

    Returns
    -------
    str
        Python, as in a configuration of CMSSW.
    """
    version = best.get("model_version")
    mode = "Async" if best.get("asynchronous") in (True, None) else "Sync"
    # TritonClient has no default for it.
    timeout_s = CMSSW_TIMEOUT_S if numbers.timeout_s is None else numbers.timeout_s
    model, batch = best["model"], best["batch_size"]
    return (
        f"{head}"
        f"# Batch size {batch}: the producer chooses it, by setBatchSize(); no more than\n"
        "# max_batch_size of the config.pbtxt below.\n"
        "# Retries: the newest CMSSW has the VPSet Retry, older ones allowedTries: not set here.\n"
        "import FWCore.ParameterSet.Config as cms\n\n"
        "Client = cms.PSet(\n"
        f'    mode = cms.string("{mode}"),\n'
        f"    modelName = cms.string({_quoted(model)}),\n"
        f"    modelVersion = cms.string({_quoted(version or '')}),\n"
        "    # a path below CMSSW_SEARCH_PATH: put PACKAGE/SUBSYSTEM/data/models/ before it\n"
        f"    modelConfigPath = cms.FileInPath({_quoted(f'{model}/config.pbtxt')}),\n"
        f"    timeout = cms.untracked.uint32({timeout_s}),\n"
        '    timeoutUnit = cms.untracked.string("seconds"),\n'
        ")\n\n"
        "# A server of one's own; its gRPC port is the base port and 1:\n"
        f"# cmsTriton -P 8000 -w {numbers.startup_wait_s} -M {_MODELS} start\n"
        "Server = cms.PSet(  # process.TritonService.servers.append(Server)\n"
        '    name = cms.untracked.string("default"),\n'
        '    address = cms.untracked.string("0.0.0.0"),\n'
        "    port = cms.untracked.uint32(8001),\n"
        ")\n"
    )


def _quoted(text: str) -> str:
    """Return a string of Python's: that of JSON is one, and ends at no quote of the results."""
    return json.dumps(text)


def kubernetes_manifests(best: Row, numbers: Production, head: str) -> str:
    """Return a Deployment and a Service, for those without SuperSONIC.

    Parameters
    ----------
    best
        The recommended configuration.
    numbers
        Its numbers.
    head
        What to begin with, from `production_sources.comment`.

    Returns
    -------
    str
        Two YAML documents. Where no container was measured, the image is to be filled in.
    """
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(best["model"]).lower())
    name = plain[:50].strip("-") or "model"
    labels = {"app.kubernetes.io/name": f"triton-{name}"}
    ports = {"http": 8000, "grpc": 8001, "metrics": 8002}
    ready = {"httpGet": {"path": "/v2/health/ready", "port": "http"}}
    container: dict[str, Any] = {
        "name": "triton",
        "image": numbers.image or f"nvcr.io/nvidia/tritonserver:{_CHOOSE}",
        "args": _server_words(best, numbers),
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": "http"}},
        "readinessProbe": {**ready, "periodSeconds": PROBE_PERIOD_S},
        "volumeMounts": [{"name": "models", "mountPath": _MODELS, "readOnly": True}],
    }
    if numbers.startup_failures is not None:
        container["startupProbe"] = {
            **ready,
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": numbers.startup_failures,
        }
    if resources := _resources(numbers, "Mi"):
        container["resources"] = resources
    claim = {"claimName": "models"}
    pod = {
        "terminationGracePeriodSeconds": _GRACE_S,
        "containers": [container],
        "volumes": [{"name": "models", "persistentVolumeClaim": claim}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"triton-{name}", "labels": labels},
        "spec": {
            "replicas": (numbers.servers or 1) + (numbers.spares or 0),
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"triton-{name}", "labels": labels},
        "spec": {
            "selector": labels,
            "ports": [
                {"name": key, "port": port, "targetPort": key} for key, port in ports.items()
            ],
        },
    }
    return head + yaml.safe_dump_all([deployment, service], sort_keys=False)


_CHOOSE = "CHOOSE-A-TAG"


_BYTES = {"M": 10**6, "Mi": 2**20}


def _resources(numbers: Production, unit: str) -> dict[str, Any]:
    """Return requests and limits; SuperSONIC's chart asks for CPUs and memory together."""
    if numbers.memory_mib is None or numbers.cpus is None:
        return {}
    # Rounded up: mebibytes as megabytes would be less than was measured.
    amount = -(-numbers.memory_mib * _BYTES["Mi"] // _BYTES[unit])
    wanted: dict[str, Any] = {"cpu": numbers.cpus, "memory": f"{amount}{unit}"}
    if numbers.gpus:
        wanted["nvidia.com/gpu"] = numbers.gpus
    return {"limits": wanted, "requests": dict(wanted)}


TARGETS: Mapping[str, tuple[str, Callable[[Row, Production, str], str]]] = {
    "triton": ("tritonserver.sh", triton_command),
    "supersonic": ("values.yaml", supersonic_values),
    "cmssw": ("triton_client.py", cmssw_pset),
    "kubernetes": ("kubernetes.yaml", kubernetes_manifests),
}
"""By the word of ``recommend --for``: the file's name and what writes it."""


def production_file(
    target: str, one: Recommendation, numbers: Production | None
) -> tuple[str, str] | None:
    """Return a file for production.

    Parameters
    ----------
    target
        A key of TARGETS.
    one
        The recommendation.
    numbers
        Its numbers.

    Returns
    -------
    tuple of str or None
        Its name and its content; None where nothing is recommended.
    """
    if one.best is None or numbers is None:
        return None
    name, write = TARGETS[target]
    return name, write(one.best, numbers, comment(one, one.best, numbers))
