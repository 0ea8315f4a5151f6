"""Values on their way into onnxruntime and out of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from onnx_pipeline.ort import call


@pytest.mark.parametrize("kind", ["INT2", "UINT2", "INT4", "UINT4"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 7])
def test_numbers_of_less_than_a_byte(kind: str, size: int) -> None:
    """All numbers of the type, however they fill their bytes, come back with their signs."""
    dtype = ir.DataType[kind]
    low = -(1 << dtype.bitwidth - 1) if dtype.is_signed() else 0
    array = (low + np.arange(size) % (1 << dtype.bitwidth)).astype(dtype.numpy())
    found = call.to_numpy(call.to_ort(array, int(dtype)))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_native_order_and_raw_bytes() -> None:
    """Lists of arrays, too; what is native already stays the same object."""
    array = np.arange(3, dtype=np.int32)
    other = array.astype(array.dtype.newbyteorder("S"))
    assert call.native(array) is array
    (found,) = call.native([other])
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)
    bfloat16 = np.dtype(ir.DataType.BFLOAT16.numpy())
    raw = array.astype(bfloat16).view("V2")
    np.testing.assert_array_equal(call.native(raw, bfloat16), array.astype(bfloat16))
    assert call.native(raw, np.dtype(np.int64)) is raw
