"""KServe's V1 and V2 JSON to arrays and back; pure.

Shapes follow kserve's Python server: V1 takes `instances` (or `inputs`), rows of numbers or strings, or objects
that become a DataFrame; V2 takes one tensor, or one per column with `parameters.content_type: "pd"`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import numpy as np

from . import binary

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}


class BadInput(Exception):
    """What was sent cannot be used; the message says why, `status` is the HTTP code."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Tensor(msgspec.Struct):
    """A V2 input tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct):
    """A V2 inference request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[dict[str, Any]] | None = None


_v1 = msgspec.json.Decoder(dict[str, Any])
_v2 = msgspec.json.Decoder(InferRequest)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytes | dt.timedelta):
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict(orient="records")
    return str(value)


encode = msgspec.json.Encoder(enc_hook=_plain).encode


def decode_v1(body: bytes) -> Any:
    """What the model is asked, from a V1 body. Raises BadInput."""
    try:
        request = _v1.decode(body)
    except msgspec.ValidationError as error:
        raise BadInput('Unrecognized request format: expected a JSON object such as {"instances": [[1, 2, 3]]}.') from (
            error
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"Unrecognized request format: {error}") from error
    rows = request["inputs"] if "inputs" in request else request.get("instances")
    if rows is None:
        raise BadInput('Expected key "instances" in the request body: a list with one row for each prediction.')
    if not isinstance(rows, list):
        raise BadInput(f'Expected "instances" to be a list with one row for each prediction, not {_kind(rows)}.')
    return _rows(rows)


def _rows(rows: list[Any]) -> Any:
    first = rows[0] if rows else None
    if isinstance(first, dict) or (isinstance(first, list) and first and isinstance(first[0], dict)):
        return _frame(rows)
    if isinstance(first, str):
        return rows
    try:
        array = np.array(rows)
    except ValueError as error:
        raise BadInput("The rows in the request differ in length: every row needs one value for each feature.") from (
            error
        )
    if array.dtype.kind == "O" and any(v is None for v in array.ravel()[:1000]):
        array = array.astype(float) if _numeric(array) else array
    return array


def _numeric(array: Any) -> bool:
    return all(v is None or isinstance(v, int | float) for v in array.ravel())


def _frame(rows: list[Any]) -> Any:
    import pandas as pd

    parts = []
    for row in rows:
        scalars = isinstance(row, dict) and not any(isinstance(v, list) for v in row.values())
        try:
            parts.append(pd.DataFrame([row] if scalars else row))
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInput(f"The rows in the request do not form a table: {error}") from error
    return pd.concat(parts, axis=0, ignore_index=True)


def encode_v1(result: Any) -> bytes:
    """The V1 response body."""
    return encode({"predictions": result.tolist() if isinstance(result, np.ndarray) else result})


def decode_v2(body: bytes, json_length: bytes | None = None) -> tuple[InferRequest, Any]:
    """A V2 request and what the model is asked. Raises BadInput (422 where upstream's schema check fails)."""
    try:
        text, raw = binary.split(body, json_length)
        request = _v2.decode(text)
        tensors = _arrays(request, raw)
    except msgspec.ValidationError as error:
        raise BadInput(f"The inference request is invalid: {error}", 422) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"The inference request is not valid JSON: {error}", 422) from error
    except binary.Malformed as error:
        raise BadInput(str(error)) from error
    if not tensors:
        raise BadInput('The inference request is invalid: "inputs" holds no tensor.')
    if (request.parameters or {}).get("content_type") == "pd":
        import pandas as pd

        try:
            return request, pd.DataFrame({name: values.ravel() for name, values in tensors})
        except ValueError as error:
            raise BadInput(f"The tensors do not form a table: {error}") from error
    if len(tensors) > 1:
        raise BadInput(
            f"{len(tensors)} tensors were sent, but this model takes one; to send a table with one tensor for "
            'each column, set "parameters": {"content_type": "pd"}.'
        )
    array = tensors[0][1]
    if array.dtype == np.object_ and array.ndim == 1:
        return request, array.tolist()
    return request, array


def _arrays(request: InferRequest, raw: memoryview) -> list[tuple[str, Any]]:
    found, at = [], 0
    for tensor in request.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if tensor.data is None and isinstance(size, int):
            if size < 0 or at + size > len(raw):
                raise BadInput(f"Input {tensor.name!r} should have {size} bytes, but the request ends before.")
            found.append((tensor.name, _array(tensor, raw[at : at + size])))
            at += size
        else:
            found.append((tensor.name, _array(tensor, None)))
    return found


def _array(tensor: Tensor, raw: memoryview | None) -> Any:
    kind = DTYPES.get(tensor.datatype)
    if kind is None:
        raise BadInput(f"invalid datatype {tensor.datatype} in the input: expected one of {', '.join(DTYPES)}.")
    if any(n < 0 for n in tensor.shape):
        raise BadInput(f"The shape {tensor.shape} of input {tensor.name!r} has a negative dimension.")
    array = binary.read(raw, kind, tensor.name) if raw is not None else _from_json(tensor, kind)
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:
        raise BadInput(
            f"Input {tensor.name!r} has {array.size} values, which do not fill its shape {tensor.shape}."
        ) from error


def _from_json(tensor: Tensor, kind: Any) -> Any:
    if tensor.data is None:
        raise BadInput(f"'data' field is missing for input '{tensor.name}'")
    if tensor.datatype == "FP16":
        raise BadInput(f"FP16 data has no JSON form: send input {tensor.name!r} as FP32 or as binary data.")
    try:
        return np.array(tensor.data, dtype=kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"The data of input {tensor.name!r} is not {tensor.datatype}: {error}") from error


def encode_v2(name: str, request: InferRequest, result: Any, response_id: str) -> tuple[bytes, int | None]:
    """The V2 response body (tensor `output-0`, or one for each column of a table), and how much of it is JSON when
    some of it is binary. Raises BadInput when an output is asked for that does not exist.
    """
    if hasattr(result, "columns"):
        made = {str(column): result[column].to_numpy() for column in result.columns}
    else:
        made = {"output-0": np.asarray(result)}
    everywhere = bool((request.parameters or {}).get("binary_data_output"))
    wanted = dict.fromkeys(made, everywhere)
    if request.outputs:
        wanted = {
            str(o.get("name")): bool((o.get("parameters") or {}).get("binary_data", everywhere))
            for o in request.outputs
        }
    tensors, raw = [], []
    for output, as_bytes in wanted.items():
        if output not in made:
            raise BadInput(f"Unexpected inference output {output!r}: there is {', '.join(made)}.")
        tensor, data = _tensor(output, made[output], as_bytes=as_bytes)
        tensors.append(tensor)
        raw += [data] if as_bytes else []
    answer = {
        "model_name": name,
        "model_version": None,
        "id": request.id or response_id,
        "parameters": None,
        "outputs": tensors,
    }
    body = encode(answer)
    return (b"".join([body, *raw]), len(body)) if raw else (body, None)


def _tensor(name: str, array: Any, *, as_bytes: bool) -> tuple[dict[str, Any], bytes]:
    datatype = _NAMES.get(array.dtype, "BYTES")
    head: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": None}
    if as_bytes:
        data = binary.write(array)
        return {**head, "parameters": {"binary_data_size": len(data)}}, data
    if datatype == "FP16":
        array, head["datatype"] = array.astype(np.float32), "FP32"
    flat = array.ravel()
    values = flat.tolist() if datatype != "BYTES" else [v if isinstance(v, str) else _plain(v) for v in flat]
    return {**head, "data": values}, b""


def _kind(value: Any) -> str:
    return {dict: "an object", str: "a string", bool: "a boolean"}.get(type(value), "a number")
