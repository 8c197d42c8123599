"""KServe's V1 and V2 JSON to arrays and back; pure.

Shapes follow kserve's Python server: V1 takes `instances` (or `inputs`), rows of numbers or strings, or objects
that become a DataFrame; V2 takes one tensor, or one per column with `parameters.content_type: "pd"`.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import numpy as np

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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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


def decode_v2(body: bytes) -> tuple[InferRequest, Any]:
    """A V2 request and what the model is asked. Raises BadInput (422 where upstream's schema check fails)."""
    try:
        request = _v2.decode(body)
    except msgspec.ValidationError as error:
        raise BadInput(f"The inference request is invalid: {error}", 422) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"The inference request is not valid JSON: {error}", 422) from error
    if not request.inputs:
        raise BadInput('The inference request is invalid: "inputs" holds no tensor.')
    if (request.parameters or {}).get("content_type") == "pd":
        import pandas as pd

        columns = {t.name: _array(t) for t in request.inputs}
        try:
            return request, pd.DataFrame({name: values.ravel() for name, values in columns.items()})
        except ValueError as error:
            raise BadInput(f"The tensors do not form a table: {error}") from error
    if len(request.inputs) > 1:
        raise BadInput(
            f"{len(request.inputs)} tensors were sent, but this model takes one; to send a table with one tensor for "
            'each column, set "parameters": {"content_type": "pd"}.'
        )
    tensor = request.inputs[0]
    if tensor.datatype == "BYTES" and len(tensor.shape) == 1 and tensor.data and isinstance(tensor.data[0], str):
        return request, tensor.data
    return request, _array(tensor)


def _array(tensor: Tensor) -> Any:
    kind = DTYPES.get(tensor.datatype)
    if kind is None:
        raise BadInput(f"invalid datatype {tensor.datatype} in the input: expected one of {', '.join(DTYPES)}.")
    if tensor.data is None:
        if "binary_data_size" in (tensor.parameters or {}):
            raise BadInput(f"Input {tensor.name!r} is in binary form, which this server does not read: send JSON data.")
        raise BadInput(f"'data' field is missing for input '{tensor.name}'")
    if tensor.datatype == "FP16":
        raise BadInput(f"FP16 data has no JSON form: send input {tensor.name!r} as FP32.")
    try:
        array = np.array(tensor.data, dtype=kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"The data of input {tensor.name!r} is not {tensor.datatype}: {error}") from error
    if any(n < 0 for n in tensor.shape):
        raise BadInput(f"The shape {tensor.shape} of input {tensor.name!r} has a negative dimension.")
    try:
        return array.reshape(tensor.shape)
    except ValueError as error:
        raise BadInput(
            f"Input {tensor.name!r} has {array.size} values, which do not fill its shape {tensor.shape}."
        ) from error


def encode_v2(name: str, request: InferRequest, result: Any, response_id: str) -> bytes:
    """The V2 response body: tensor `output-0`, or one tensor for each column of a table."""
    if hasattr(result, "columns"):
        tensors = [_tensor(str(column), result[column].to_numpy()) for column in result.columns]
    else:
        tensors = [_tensor("output-0", np.asarray(result))]
    wanted = {o.get("name") for o in request.outputs or ()}
    if wanted:
        tensors = [t for t in tensors if t["name"] in wanted]
    return encode(
        {
            "model_name": name,
            "model_version": None,
            "id": request.id or response_id,
            "parameters": None,
            "outputs": tensors,
        }
    )


def _tensor(name: str, array: Any) -> dict[str, Any]:
    datatype = _NAMES.get(array.dtype, "BYTES")
    if datatype == "FP16":
        array, datatype = array.astype(np.float32), "FP32"
    flat = array.ravel()
    data = flat.tolist() if datatype != "BYTES" else [v if isinstance(v, str) else _plain(v) for v in flat]
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "parameters": None, "data": data}


def _kind(value: Any) -> str:
    return {dict: "an object", str: "a string", bool: "a boolean"}.get(type(value), "a number")
