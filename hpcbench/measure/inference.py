"""Send one request to a Triton over HTTP, with tensors in binary form.

Not over gRPC: its threads do not belong into a process that starts programs, and it takes no socket
of another network. Source: Triton's binary tensor data extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).
"""

import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient import utils

from hpcbench.runtime.loopback import Port

Array = npt.NDArray[Any]

_LENGTH = "Inference-Header-Content-Length"

_TIMEOUT_S = 300.0


def infer(
    port: Port, model: str, inputs: Mapping[str, tuple[str, Array]], version: int | None = None
) -> dict[str, Array]:
    """Send a request, and return the outputs.

    Parameters
    ----------
    port
        Triton's port for HTTP.
    model
        The model.
    inputs
        Data type as the protocol calls it, such as FP32, and values of each input.
    version
        Its version; None for the one that Triton chooses.

    Returns
    -------
    dict of str to numpy.ndarray
        By the names of the outputs.

    Raises
    ------
    OSError
        If there is no answer.
    ValueError
        If Triton refuses the request, with its words.
    """
    header, *tensors = _request(inputs)
    path = f"/v2/models/{model}" + ("" if version is None else f"/versions/{version}")
    connection = port.http(_TIMEOUT_S)
    try:
        fields = {_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        connection.request("POST", f"{path}/infer", b"".join([header, *tensors]), fields)
        response = connection.getresponse()
        body = response.read()
        length = int(response.headers.get(_LENGTH, len(body)))
    except http.client.HTTPException as error:
        raise ConnectionError(f"no answer in HTTP: {error!r}") from error
    finally:
        connection.close()
    answer = json.loads(body[:length])
    if response.status != http.client.OK:
        raise ValueError(answer.get("error", f"HTTP status {response.status}"))
    return _outputs(answer["outputs"], body[length:])


def _request(inputs: Mapping[str, tuple[str, Array]]) -> list[bytes]:
    """The JSON, and the tensors that follow it."""
    tensors = [_to_bytes(kind, values) for kind, values in inputs.values()]
    described = [
        {
            "name": name,
            "shape": list(values.shape),
            "datatype": kind,
            "parameters": {"binary_data_size": len(tensor)},
        }
        for (name, (kind, values)), tensor in zip(inputs.items(), tensors, strict=True)
    ]
    content = {"inputs": described, "parameters": {"binary_data_output": True}}
    return [json.dumps(content).encode(), *tensors]


def _to_bytes(kind: str, values: Array) -> bytes:
    if kind == "BYTES":
        # An array of no dimension that holds the bytes; empty where there is no value.
        packed = utils.serialize_byte_tensor(values)
        return bytes(packed.item()) if packed.size else b""
    if kind == "BF16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return values.tobytes()


def _from_bytes(kind: str, data: bytes) -> Array:
    if kind == "BYTES":
        strings: Array = utils.deserialize_bytes_tensor(data)
        return strings
    if kind == "BF16":
        # The upper half of a float of 32 bits, which NumPy has.
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, utils.triton_to_np_dtype(kind))


def _outputs(described: list[dict[str, Any]], data: bytes) -> dict[str, Array]:
    found, position = {}, 0
    for each in described:
        end = position + each["parameters"]["binary_data_size"]
        values = _from_bytes(each["datatype"], data[position:end])
        found[each["name"]] = values.reshape(each["shape"])
        position = end
    return found
