#!/usr/bin/env python3
"""Runs every kernel of Sources/C/CCUDA/kernels.ptx on a CUDA device and compares what it writes with NumPy.

    scripts/checks/kernels.py                            on this host's GPU
    scripts/checks/kernels.py --driver libFakeCUDA.so    on the stand-in of Tests/FakeCUDA, on the CPU
    scripts/checks/kernels.py --driver libFakeCUDA.so --orders 0,1,7
                                                         the same once per order of threads; the bytes must not depend on it

The inputs are random. The kernels are launched as Sources/CUDABackend launches them, each twice: the outputs are filled with 0xff
before the first launch and with 0x7f before the second. So bytes that were not written differ, and so do results that depend on
chance. The references are computed in float64. An error is ||out - reference|| / ||reference||; "exact" counts the elements that
differ. If cuBLAS is found, products of operands in parts are checked too. Needs only NumPy. Exit status 1 if a check fails."""

import argparse
import ctypes
import functools
import glob
import hashlib
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np

root = pathlib.Path(__file__).resolve().parents[2]
releases = {13: ("libcudart.so.13", "libcublas.so.13"), 12: ("libcudart.so.12", "libcublas.so.12"),
            11: ("libcudart.so.11.0", "libcublas.so.11")}
activation_scale, low_scale = np.float32(1 / 256), np.float32(2048)
partition = np.dtype([("sum", "f8"), ("weighted", "f8"), ("largest", "f4"), ("target", "f4"), ("non_finite", "i4"), ("padding", "i4")])


# The device ------------------------------------------------------------------------------------------------------------

class DeviceFailure(Exception):
    pass


@functools.cache
def folders(major: int) -> list[str]:
    """Returns folders with libraries of CUDA `major` that the system's search does not find: Python packages, the toolkit."""
    packages = ["nvidia/cu13/lib"] if major == 13 else ["nvidia/cuda_runtime/lib", "nvidia/cublas/lib"]
    found = [path for place in sys.path if place for package in packages for path in sorted(glob.glob(f"{place}/{package}"))]
    return [*found, "/usr/local/cuda/lib64", *sorted(glob.glob(f"/usr/local/cuda-{major}*/lib64"))]


def load(name: str, places: list[str] = [], mode: int = ctypes.DEFAULT_MODE) -> ctypes.CDLL | None:
    for file in [name, *(f"{place}/{name}" for place in places)]:
        try:
            return ctypes.CDLL(file, mode)
        except OSError as error:
            if os.path.exists(file):
                print(f"{file}: {error}", file=sys.stderr)
    return None


@dataclass
class Buffer:
    """Memory on the device between two guards, which are filled with 0xff bytes and must not be written."""

    address: int
    bytes: int
    shape: tuple = ()
    type: np.dtype = np.dtype("u1")


class Device:
    def __init__(self, given: argparse.Namespace):
        driver = load(given.driver, ["/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/usr/lib/x86_64-linux-gnu"], ctypes.RTLD_GLOBAL)
        if not driver:
            raise DeviceFailure(f"{given.driver} cannot be loaded; is an NVIDIA driver installed?")
        self.driver = driver
        version = ctypes.c_int()
        driver.cuDriverGetVersion(ctypes.byref(version))
        self.runtime, major = self.find_runtime(given.runtime, version.value // 1000 or max(releases))
        self.call(driver, "cuInit", 0)
        self.call(self.runtime, "cudaSetDevice", 0)
        self.call(self.runtime, "cudaFree", None)
        device, text = ctypes.c_int(), ctypes.create_string_buffer(256)
        self.call(driver, "cuDeviceGet", ctypes.byref(device), 0)
        self.call(driver, "cuDeviceGetName", text, 256, device)
        self.name = text.value.decode()
        self.is_fake = self.name.startswith("Fake")
        processors = ctypes.c_int()
        self.call(driver, "cuDeviceGetAttribute", ctypes.byref(processors), 16, device)
        self.processors = processors.value
        # The stand-in has its own guards, which raise a fault on access.
        self.guard = 0 if self.is_fake else 256
        self.stream = ctypes.c_void_p()
        self.call(self.runtime, "cudaStreamCreateWithFlags", ctypes.byref(self.stream), 1)
        self.poison = 0xFF
        self.buffers: list[Buffer] = []
        self.functions: dict[str, ctypes.c_void_p] = {}
        self.load_kernels()
        self.blas = self.find_blas(given.blas, major)

    def find_runtime(self, name: str | None, newest: int) -> tuple[ctypes.CDLL, int]:
        if name or hasattr(self.driver, "cudaMalloc"):
            runtime = load(name) if name else self.driver
            if not runtime:
                raise DeviceFailure(f"{name} cannot be loaded")
            version = ctypes.c_int()
            runtime.cudaRuntimeGetVersion(ctypes.byref(version))
            return runtime, version.value // 1000
        for major, (soname, _) in releases.items():
            if major <= newest and (runtime := load(soname, folders(major))):
                return runtime, major
        raise DeviceFailure(f"no libcudart found for a driver of CUDA {newest}; give its path with --runtime")

    def find_blas(self, name: str | None, major: int) -> ctypes.c_void_p | None:
        """Returns a cuBLAS handle that uses the stream and a separate workspace, or None if cuBLAS is not found."""
        if name or hasattr(self.runtime, "cublasCreate_v2"):
            library = load(name) if name else self.runtime
            if not library:
                raise DeviceFailure(f"{name} cannot be loaded")
        elif not (library := load(releases[major][1], folders(major))):
            return None
        self.blas_library = library
        handle, room = ctypes.c_void_p(), ctypes.c_void_p()
        self.call(library, "cublasCreate_v2", ctypes.byref(handle))
        self.call(self.runtime, "cudaMalloc", ctypes.byref(room), ctypes.c_size_t(64 << 20))
        self.call(library, "cublasSetStream_v2", handle, self.stream)
        self.call(library, "cublasSetWorkspace_v2", handle, room, ctypes.c_size_t(64 << 20))
        return handle

    def call(self, library: ctypes.CDLL, function: str, *arguments) -> None:
        status = getattr(library, function)(*arguments)
        if status == 0:
            return
        name = ctypes.c_char_p()
        if not function.startswith("cublas"):
            self.driver.cuGetErrorName(status, ctypes.byref(name))
        raise DeviceFailure(f"{function}: {name.value.decode() if name.value else 'status'} ({status})")

    def load_kernels(self) -> None:
        text = (root / "Sources/C/CCUDA/kernels.ptx").read_bytes()
        entries = re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", text.decode())
        # The types of each kernel's parameters: u32 is an int, u64 is a long long or a pointer, f32 is a float.
        self.parameters = {name: re.findall(r"\.param \.(\w+)", parameters) for name, parameters in entries}
        self.module, log = ctypes.c_void_p(), ctypes.create_string_buffer(4096)
        options = (ctypes.c_int * 2)(5, 6)  # the error log's buffer and its size
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), 4096)
        try:
            self.call(self.driver, "cuModuleLoadDataEx", ctypes.byref(self.module), text + b"\0", 2, options, values)
        except DeviceFailure as failure:
            raise DeviceFailure(f"{failure} {log.value.decode()}".strip()) from None

    def launch(self, name: str, grid: int | tuple[int, int], block: int, *arguments, shared: int = 0) -> None:
        """Runs a kernel and waits for it. Arguments are numbers, buffers, addresses, or None (a null pointer)."""
        if name not in self.functions:
            function = ctypes.c_void_p()
            self.call(self.driver, "cuModuleGetFunction", ctypes.byref(function), self.module, name.encode())
            self.functions[name] = function
        function = self.functions[name]
        if shared > 48 << 10:
            self.call(self.driver, "cuFuncSetAttribute", function, 8, shared)
        types = self.parameters[name]
        assert len(types) == len(arguments), f"{name} takes {len(types)} arguments"
        makers = {"u32": ctypes.c_int32, "u64": ctypes.c_int64, "f32": ctypes.c_float}
        plain = [0 if a is None else a.address if isinstance(a, Buffer) else a for a in arguments]
        slots = [makers[kind](a if kind == "f32" else int(a)) for kind, a in zip(types, plain)]
        addresses = (ctypes.c_void_p * len(slots))(*(ctypes.addressof(slot) for slot in slots))
        x, y = grid if isinstance(grid, tuple) else (grid, 1)
        try:
            self.call(self.driver, "cuLaunchKernel", function, x, y, 1, block, 1, 1, shared, self.stream, addresses, None)
            self.synchronize()
        except DeviceFailure as failure:
            raise DeviceFailure(f"{name}: {failure}") from None

    def synchronize(self) -> None:
        self.call(self.runtime, "cudaStreamSynchronize", self.stream)

    def allocate(self, shape, type, fill: int) -> Buffer:
        shape = shape if isinstance(shape, tuple) else (shape,)
        size = math.prod(shape) * np.dtype(type).itemsize
        pointer, total = ctypes.c_void_p(), max(size + 2 * self.guard, 1)
        self.call(self.runtime, "cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(total))
        buffer = Buffer(pointer.value + self.guard, size, shape, np.dtype(type))
        self.buffers.append(buffer)
        for start, length, value in [(-self.guard, self.guard, 0xFF), (0, size, fill), (size, total - self.guard - size, 0xFF)]:
            address = ctypes.c_void_p(buffer.address + start)
            if length:
                self.call(self.runtime, "cudaMemsetAsync", address, value, ctypes.c_size_t(length), self.stream)
        return buffer

    def output(self, shape, type=np.float32) -> Buffer:
        return self.allocate(shape, type, self.poison)

    def upload(self, array: np.ndarray) -> Buffer:
        buffer = self.allocate(array.shape, array.dtype, 0xFF)
        self.write(buffer, array)
        return buffer

    def write(self, buffer: Buffer, array: np.ndarray, offset: int = 0) -> None:
        array = np.ascontiguousarray(array)
        assert offset + array.nbytes <= buffer.bytes
        self.copy(buffer.address + offset, array.ctypes.data, array.nbytes, 1)

    def fetch(self, buffer: Buffer) -> np.ndarray:
        array = np.empty(buffer.shape, buffer.type)
        self.copy(array.ctypes.data, buffer.address, array.nbytes, 2)
        return array

    def copy(self, to: int, source: int, size: int, kind: int) -> None:
        arguments = ctypes.c_void_p(to), ctypes.c_void_p(source), ctypes.c_size_t(size), kind, self.stream
        self.call(self.runtime, "cudaMemcpyAsync", *arguments)
        self.synchronize()

    def release(self) -> int:
        """Frees all buffers. Returns the number of bytes in their guards that were written."""
        written = 0
        for buffer in self.buffers:
            for start in (-self.guard, buffer.bytes) if self.guard else ():
                guard = np.empty(self.guard, np.uint8)
                self.copy(guard.ctypes.data, buffer.address + start, self.guard, 2)
                written += int((guard != 0xFF).sum())
            self.call(self.runtime, "cudaFree", ctypes.c_void_p(buffer.address - self.guard))
        self.buffers = []
        return written

    def free_bytes(self) -> int:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call(self.runtime, "cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def multiply(self, a: int, lda: int, is_a_transposed: bool, b: int, ldb: int, type: int, m: int, n: int, k: int,
                 factor: float, is_adding: bool, c: Buffer) -> None:
        """As CUDADevice.multiply: C (m, n) = factor * A * B, or C += if `is_adding`. Column-major; `type` is a cudaDataType."""
        alpha, beta = ctypes.c_float(factor), ctypes.c_float(is_adding)
        left, right, out = (ctypes.c_void_p(address) for address in (a, b, c.address))
        self.call(self.blas_library, "cublasGemmEx", self.blas, int(is_a_transposed), 0, m, n, k, ctypes.byref(alpha), left, type,
                  lda, right, type, ldb, ctypes.byref(beta), out, 0, m, 68, -1)
        self.synchronize()


def block(width: int) -> int:
    """Returns the number of threads of a block that processes a row, as CUDABackend.block."""
    return 256 if width >= 1024 else 128 if width >= 256 else 32


# Numbers in 16 bits ------------------------------------------------------------------------------------------------------

def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Returns the bits of the nearest bfloat16 numbers, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), (bits >> 16 | 0x40).astype(np.uint16), rounded)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def parts_of(x: np.ndarray, scale: np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits x * scale into three float16 parts: high, low and rest."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.asarray(x, np.float32) * scale
        high = scaled.astype(np.float16)
        remainder = (scaled - high.astype(np.float32)) * low_scale
        low = remainder.astype(np.float16)
        return high, low, ((remainder - low.astype(np.float32)) * low_scale).astype(np.float16)


def joined(high: np.ndarray, low: np.ndarray, scale: float, rest: np.ndarray | float = 0.0) -> np.ndarray:
    below = low.astype(np.float64) + np.asarray(rest, np.float64) / 2048
    return (high.astype(np.float64) + below / 2048) / float(scale)


def rows_in_parts(x: np.ndarray, parts: int) -> np.ndarray:
    """Returns what split_rows computes: [low | high] in float16 for two parts, or bfloat16 bits for one part."""
    if parts == 1:
        return to_bfloat16(x)
    high, low, _ = parts_of(x, activation_scale)
    return np.concatenate([low, high], axis=1)


def rows_from_parts(split: np.ndarray, parts: int) -> np.ndarray:
    if parts == 1:
        return from_bfloat16(split).astype(np.float64)
    width = split.shape[1] // 2
    return joined(split[:, width:], split[:, :width], activation_scale)


def scale_of(x: np.ndarray) -> np.float32:
    """As WeightSurvey: returns the power of two that scales the largest magnitude to 2^14 ..< 2^15."""
    largest = float(np.abs(x).max())
    return np.float32(2.0 ** min(14 - (math.frexp(largest)[1] - 1), 100)) if largest else np.float32(1)


# Results -----------------------------------------------------------------------------------------------------------------

@dataclass
class Row:
    """A line of the table: the largest error of all checks with this kernel and case."""

    kernel: str
    case: str
    limit: float  # largest allowed error; 0: all elements must be equal
    error: float = 0.0
    is_ok: bool = True
    note: str = ""

    def take(self, error: float, is_ok: bool, note: str) -> None:
        if not is_ok and self.is_ok:
            self.note = note
        self.is_ok = self.is_ok and is_ok
        self.error = math.nan if math.isnan(error) or math.isnan(self.error) else max(self.error, error)

    def line(self) -> str:
        error, limit = (f"{self.error:.0f}", "exact") if self.limit == 0 else (f"{self.error:.2g}", f"{self.limit:.2g}")
        verdict = "ok" if self.is_ok else f"FAILED{': ' * bool(self.note)}{self.note}"
        return f"{self.kernel:21} {self.case:70} {error:>8} {limit:>8}  {verdict}"


heading = f"{'kernel':21} {'case':70} {'error':>8} {'limit':>8}  ok"


@dataclass
class Sizes:
    widths: list[int]  # widths of rows
    rows: int
    table_rows: int
    documents: tuple  # the long case: (width, group, key heads, lengths of documents, windows, caps)
    vocabularies: list[tuple[int, int, int]]  # tokens, chunks, rows
    features: list[tuple[int, int, int]]  # features, rows, rows per chunk
    products: list[tuple[int, int, int]]  # rows, inner, outputs


all_sizes = {
    "small": Sizes(
        widths=[1, 31, 70, 256, 1030], rows=5, table_rows=50, documents=(64, 2, 1, [150], [100], [50.0]),
        vocabularies=[(1, 1, 3), (31, 1, 5), (1000, 7, 9), (5003, 3, 130)],
        features=[(1, 9, 4), (31, 7, 7), (70, 7, 3), (256, 6, 2), (1000, 5, 3), (16384, 3, 2)], products=[(37, 576, 72), (9, 9300, 40)]),
    "large": Sizes(
        widths=[1, 31, 70, 256, 1030, 2304, 9216], rows=512, table_rows=16000,
        documents=(256, 2, 4, [1, 31, 1000, 4200], [0, 4096], [50.0]),
        vocabularies=[(1, 1, 3), (31, 1, 5), (1000, 7, 300), (256000, 16, 64)],
        features=[(1, 300, 100), (31, 300, 100), (70, 300, 100), (256, 300, 90), (1000, 300, 70), (16384, 300, 128), (65536, 40, 25)],
        products=[(300, 2304, 1000), (300, 9216, 1000), (300, 14336, 500)]),
}


class Checks:
    def __init__(self, device: Device, sizes: Sizes, seed: int):
        self.device, self.sizes, self.seed = device, sizes, seed
        self.random = np.random.default_rng(seed)
        self.rows: dict[tuple[str, str], Row] = {}
        self.digests: dict[str, "hashlib._Hash"] = {}
        self.is_quiet, self.printed = False, 0

    def put(self, kernel: str, case: str, error: float, limit: float, note: str = "") -> None:
        row = self.rows.setdefault((kernel, case), Row(kernel, case, limit))
        row.take(error, error <= limit, note)

    def near(self, kernel: str, case: str, limit: float, out: np.ndarray, reference: np.ndarray, detail: str = "") -> None:
        assert out.shape == reference.shape
        with np.errstate(all="ignore"):
            norm, distance = np.linalg.norm(reference), np.linalg.norm(out.astype(np.float64) - reference)
        self.put(kernel, case, float(distance / norm if norm else distance), limit, detail)

    def exact(self, kernel: str, case: str, out, reference, detail: str = "") -> None:
        """Checks that the bits are equal; for floats, any NaN equals any other NaN."""
        out, reference = np.asarray(out), np.asarray(reference)
        assert out.shape == reference.shape, (kernel, case, out.shape, reference.shape)
        if out.dtype.kind == "f":
            assert out.dtype == reference.dtype
            bits = f"u{out.dtype.itemsize}"
            different = out.view(bits) != reference.view(bits)
            different &= ~(np.isnan(out) & np.isnan(reference))
        else:
            different = out != reference
        self.put(kernel, case, float(np.count_nonzero(different)), 0, detail)

    def twice(self, kernel: str, body, detail: str = "") -> list[np.ndarray]:
        """Runs `body` twice with different fill bytes. Checks that the bytes are equal, and returns the first run's arrays."""
        runs = []
        for poison in (0xFF, 0x7F):
            self.device.poison = poison
            runs.append([np.ascontiguousarray(array) for array in body()])
            written = self.device.release()
            self.put(kernel, "nothing is written outside the buffers", written, 0, detail)
        differing = sum(int(np.count_nonzero(a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8))) for a, b in zip(*runs))
        self.put(kernel, "two launches give the same bytes, and all of them", differing, 0, detail)
        digest = self.digests.setdefault(kernel, hashlib.sha256())
        for array in runs[0]:
            digest.update(array.tobytes())
        return runs[0]

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (self.random.standard_normal(shape, np.float32) * np.float32(scale)).astype(np.float32)

    def wide(self, *shape: int, octaves: int = 20) -> np.ndarray:
        """Returns random numbers with magnitudes of 2^-octaves to 1, and some zeros."""
        magnitude = np.exp2(self.random.uniform(-octaves, 0, shape)) * self.random.choice([-1, 1], shape)
        return (magnitude * (self.random.random(shape) > 0.02)).astype(np.float32)

    # Operands in parts

    def split_weights(self) -> None:
        kernel, device = "split_weights", self.device

        def run(stored: np.ndarray, type: int, parts: int, scale: float, by_outputs: bool, has_rest: bool, grid: int) -> list[np.ndarray]:
            rows, width = stored.shape
            count = max(parts, 1)
            row_stride, part_stride = (width * count, width) if by_outputs else (width, rows * width)
            half = np.uint16 if parts == 0 else np.float16

            def body():
                out = device.output((rows, count, width) if by_outputs else (count, rows, width), half)
                rest = device.output((rows, width), np.float16) if has_rest else None
                # Splits the rows in two calls, as when a file is read in pieces.
                for first, end in [(0, rows // 2), (rows // 2, rows)]:
                    if first == end:
                        continue
                    piece = device.upload(stored[first:end])
                    blocks = grid or min(((end - first) * width + 255) // 256, 16 * device.processors)
                    device.launch(kernel, blocks, 256, piece, type, end - first, width, parts, scale, out.address + 2 * first * row_stride,
                                  row_stride, part_stride, rest.address + 2 * first * width if has_rest else None)
                return [device.fetch(out), *([device.fetch(rest)] if has_rest else [])]

            out, *rest = self.twice(kernel, body, f"type {type}, {rows} x {width}, {parts} parts")
            return [*(out.transpose(1, 0, 2) if by_outputs else out), *rest]

        shapes = [(3, 1), (7, 31), (20, 70), (9, 256), (5, 1030)] + [(self.sizes.table_rows, 2304)] * (self.sizes.rows > 100)
        for rows, width in shapes:
            x = self.wide(rows, width)
            stored = [x, to_bfloat16(x), x.astype(np.float16)]
            with np.errstate(all="ignore"):  # also numbers that are subnormal in float16
                stored[2][:, ::3] = (x[:, ::3] * np.float32(2**-9)).astype(np.float16)
            values = [x, from_bfloat16(stored[1]), stored[2].astype(np.float32)]
            for type, name in enumerate(["float32", "bfloat16", "float16"]):
                scale = scale_of(values[type])
                high, low, rest = parts_of(values[type], scale)
                for by_outputs in (True, False):
                    grid = 2 if width == 256 else 0  # each thread processes several elements
                    detail = f"{rows} x {width}, rows are {'outputs' if by_outputs else 'inputs'}"
                    run_one = functools.partial(run, stored[type], type)
                    (out,) = run_one(0, 1.0, by_outputs, False, grid)
                    self.exact(kernel, f"{name} to bfloat16", out, to_bfloat16(values[type]), detail)
                    (out,) = run_one(1, scale, by_outputs, False, grid)
                    self.exact(kernel, f"{name} to one part", out, high, detail)
                    if type > 0:
                        self.exact(kernel, f"{name} from one part", out.astype(np.float32) / scale, values[type], detail)
                    for has_rest in (False, True):
                        out = run_one(2, scale, by_outputs, has_rest, grid)
                        case = f"{name} to two parts{' and a rest' * has_rest}"
                        for got, wanted in zip(out, [high, low, rest]):
                            self.exact(kernel, case, got, wanted, detail)
                        if has_rest:
                            whole = joined(out[0], out[1], scale, out[2]).astype(np.float32)
                            self.exact(kernel, f"{name} from two parts and a rest", whole + np.float32(0), values[type] + np.float32(0), detail)
                        else:
                            self.near(kernel, f"{name} from two parts", 3e-7, joined(out[0], out[1], scale), values[type].astype(np.float64), detail)
        odd = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x80000000, 0x00000001, 0x3F808000,
                        0x3F818000, 0x477FF000, 0x477FEFFF], np.uint32).view(np.float32).reshape(1, -1)
        self.exact(kernel, "NaN, infinite, too large, tiny and half-way to bfloat16", run(odd, 0, 0, 1.0, True, False, 0)[0], to_bfloat16(odd))
        for got, wanted in zip(run(odd, 0, 2, 1.0, True, False, 0), parts_of(odd, np.float32(1))):
            self.exact(kernel, "NaN, infinite, too large, tiny and half-way to two parts", got, wanted)

    def split_rows(self) -> None:
        kernel, device = "split_rows", self.device
        for width in self.sizes.widths:
            x = self.normal(self.sizes.rows, width) * np.exp2(self.random.uniform(-12, 12, (self.sizes.rows, width))).astype(np.float32)
            for parts in (1, 2):
                def body():
                    out = device.output((len(x), width * parts), np.uint16 if parts == 1 else np.float16)
                    device.launch(kernel, len(x), block(width), device.upload(x), out, parts, width)
                    return [device.fetch(out)]

                (out,) = self.twice(kernel, body, f"width {width}, {parts} parts")
                name = "bfloat16" if parts == 1 else "two parts"
                self.exact(kernel, f"to {name}", out, rows_in_parts(x, parts), f"width {width}")
                self.near(kernel, f"from {name}", 4e-3 if parts == 1 else 3e-7, rows_from_parts(out, parts), x.astype(np.float64), f"width {width}")
        x = np.float32([[np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, 1.67e7, 65504 * 256, 1.6e7, -1.6e7, 0, -0.0, 1e-6, 3e-5, 1e-12]])

        def body():
            out = device.output((1, 2 * x.shape[1]), np.float16)
            device.launch(kernel, 1, 32, device.upload(x), out, 2, x.shape[1])
            return [device.fetch(out)]

        self.exact(kernel, "NaN, infinite, too large, largest, zero and tiny to two parts", self.twice(kernel, body)[0], rows_in_parts(x, 2))

    def embed_rows(self) -> None:
        kernel, device = "embed_rows", self.device
        factor = np.float32(math.sqrt(2304))
        for width in self.sizes.widths:
            rows = max(7, min(self.sizes.table_rows, 30_000_000 // width))
            x = self.wide(rows, width)
            short = from_bfloat16(to_bfloat16(x))
            ids = np.int32([rows - 1, 0, *self.random.integers(0, rows, self.sizes.rows)])
            for case, values, parts, has_rest in [("bfloat16", short, 0, False), ("one part of bfloat16 numbers", short, 1, False),
                                                  ("two parts", x, 2, False), ("two parts and a rest", x, 2, True)]:
                scale = scale_of(values) if parts else np.float32(1)
                high, low, rest = parts_of(values, scale)
                table = [to_bfloat16(values), high, np.concatenate([high, low], axis=1)][parts]

                def body():
                    out = device.output((len(ids), width))
                    device.launch(kernel, len(ids), block(width), device.upload(ids), device.upload(table), device.upload(rest) if has_rest else None,
                                  parts, 1 / scale, table.shape[1], out, width, factor)
                    return [device.fetch(out)]

                (out,) = self.twice(kernel, body, f"{case}, {rows} x {width}")
                if parts == 2 and not has_rest:
                    self.near(kernel, case, 3e-7, out, values[ids].astype(np.float64) * float(factor), f"{rows} x {width}")
                    wanted = joined(high[ids], low[ids], scale).astype(np.float32) * factor
                    self.exact(kernel, "two parts, the exact sum of the parts", out + np.float32(0), wanted + np.float32(0), f"{rows} x {width}")
                else:
                    self.exact(kernel, case, out + np.float32(0), values[ids] * factor + np.float32(0), f"{rows} x {width}")
        rows, width = 480_000, 2304  # 2.2e9 elements
        if self.sizes.rows > 100 and device.free_bytes() > 9 << 30:
            ids = np.int32([rows - 1, 3, rows // 2])
            x = self.wide(len(ids), width)
            scale = scale_of(x)
            high, low, rest = parts_of(x, scale)

            def body():
                table, remaining = device.output((rows, 2 * width), np.float16), device.output((rows, width), np.float16)
                for at, id in enumerate(ids):
                    device.write(table, np.concatenate([high[at], low[at]]), int(id) * 4 * width)
                    device.write(remaining, rest[at], int(id) * 2 * width)
                out = device.output((len(ids), width))
                device.launch(kernel, len(ids), 256, device.upload(ids), table, remaining, 2, 1 / scale, 2 * width, out, width, factor)
                return [device.fetch(out)]

            (out,) = self.twice(kernel, body, "a table of more than 2^31 elements")
            self.exact(kernel, "a table of more than 2^31 elements", out + np.float32(0), x * factor + np.float32(0))

    # Elementwise and by rows

    def forms(self, kernel: str, limit: float, launch, reference: np.ndarray, detail: str) -> None:
        """Checks the three outputs that rms_norm and geglu share: float32, parts, or both."""
        device, (rows, width) = self.device, reference.shape
        for parts in (2, 1):
            def body():
                half = np.uint16 if parts == 1 else np.float16
                outs = [device.output((rows, width)) for _ in range(2)]
                splits = [device.output((rows, width * parts), half) for _ in range(2)]
                for out, split in [(outs[0], None), (None, splits[0]), (outs[1], splits[1])]:
                    launch(out, split, parts)
                return [device.fetch(buffer) for buffer in (*outs, *splits)]

            out, out_of_both, split, split_of_both = self.twice(kernel, body, detail)
            name = "bfloat16" if parts == 1 else "two parts"
            self.near(kernel, "float32", limit, out, reference, detail)
            self.exact(kernel, "float32, alone and with parts", out_of_both, out, detail)
            self.exact(kernel, f"{name} with float32: the parts of that float32", split_of_both, rows_in_parts(out, parts), detail)
            self.exact(kernel, f"{name}, alone and with float32", split, split_of_both, detail)
            self.near(kernel, name, 4e-3 if parts == 1 else limit + 1e-7, rows_from_parts(split, parts), reference, detail)

    def norm_inputs(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of different magnitudes, one of them zeros, and the weight of a norm."""
        x = self.normal(self.sizes.rows, width) * np.exp2(self.random.uniform(-10, 10, (self.sizes.rows, 1))).astype(np.float32)
        x[1] = 0
        x[2] *= np.float32(1e-20)
        x[:, ::97] *= np.float32(30)
        return x, 1 + self.normal(width, scale=0.5)

    @staticmethod
    def normed(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
        x = x.astype(np.float64)
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + np.float32(epsilon).astype(np.float64)) * weight

    def rms_norm(self) -> None:
        device = self.device
        for width in self.sizes.widths:
            x, weight = self.norm_inputs(width)

            def launch(out, split, parts):
                device.launch("rms_norm", len(x), block(width), device.upload(x), device.upload(weight), out, split, parts, width, 1e-6)

            self.forms("rms_norm", 5e-7, launch, self.normed(x, weight, 1e-6), f"width {width}")

    def add_rms_norm(self) -> None:
        kernel, device = "add_rms_norm", self.device
        for width in self.sizes.widths:
            y, weight = self.norm_inputs(width)
            x = self.normal(*y.shape)

            def body():
                target = device.upload(x)
                device.launch(kernel, len(y), block(width), device.upload(y), device.upload(weight), target, width, 1e-6)
                return [device.fetch(target)]

            (out,) = self.twice(kernel, body, f"width {width}")
            self.near(kernel, "float32", 5e-7, out, x + self.normed(y, weight, 1e-6), f"width {width}")

    def add(self) -> None:
        kernel, device = "add", self.device
        for count, grid in [(1, 0), (255, 0), (1000, 0), (5000, 3), (self.sizes.rows * 2304, 0)]:
            x, y = self.normal(count), self.normal(count)

            def body():
                target = device.upload(x)
                device.launch(kernel, grid or min((count + 255) // 256, 8 * device.processors), 256, device.upload(y), target, count)
                return [device.fetch(target)]

            self.exact(kernel, "float32", self.twice(kernel, body)[0], x + y, f"{count} elements")

    def rotate(self) -> None:
        kernel, device = "rotate", self.device
        for heads, half in [(1, 2), (3, 10), (2, 16), (5, 35), (8, 128), (4, 128)]:
            rows, positions = self.sizes.rows + 30, 211
            x = self.normal(rows, heads, 2, half)
            places = self.random.integers(0, positions, rows).astype(np.int32)
            angle = np.arange(positions)[:, None] * 10000.0 ** (-np.arange(half) / half)
            cosines, sines = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

            def body():
                target = device.upload(x)
                device.launch(kernel, rows, block(heads * half), target, device.upload(places), device.upload(cosines), device.upload(sines),
                              heads, half)
                return [device.fetch(target)]

            (out,) = self.twice(kernel, body, f"{heads} heads of {2 * half}")
            a, b = x[:, :, 0].astype(np.float64), x[:, :, 1].astype(np.float64)
            cosine, sine = cosines[places][:, None].astype(np.float64), sines[places][:, None].astype(np.float64)
            reference = np.stack([a * cosine - b * sine, b * cosine + a * sine], axis=2)
            self.near(kernel, "float32", 2e-7, out, reference, f"{heads} heads of {2 * half}")

    def geglu(self) -> None:
        device = self.device
        for width in self.sizes.widths:
            gate, up = self.normal(self.sizes.rows, width, scale=2), self.normal(self.sizes.rows, width, scale=3)
            gate.reshape(-1)[:3] = np.resize(np.float32([0, 30, -30]), len(gate.reshape(-1)[:3]))

            def launch(out, split, parts):
                device.launch("geglu", len(gate), block(width), device.upload(gate), device.upload(up), out, split, parts, width)

            x = gate.astype(np.float64)
            reference = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) * up
            self.forms("geglu", 5e-7, launch, reference, f"width {width}")

    # Attention

    @staticmethod
    def attended(q, k, v, lengths, scale, cap, window) -> np.ndarray:
        """Returns the attention output in float64 for q (tokens, heads, width), k and v (tokens, key heads, width)."""
        out = np.empty(q.shape)
        group = q.shape[1] // k.shape[1]
        start = 0
        for length in lengths:
            rows = slice(start, start + length)
            distance = np.arange(length)[:, None] - np.arange(length)
            is_seen = (distance >= 0) & ((window == 0) | (distance < window))
            for head in range(q.shape[1]):
                score = q[rows, head].astype(np.float64) @ k[rows, head // group].astype(np.float64).T * scale
                if cap:
                    score = np.tanh(score / cap) * cap
                score = np.where(is_seen, score, -np.inf)
                weight = np.exp(score - score.max(axis=1, keepdims=True))
                out[rows, head] = weight @ v[rows, head // group].astype(np.float64) / weight.sum(axis=1, keepdims=True)
            start += length
        return out

    def run_attention(self, q, k, v, lengths, scale, cap, window, detail) -> np.ndarray:
        kernel, device = "attention_256" if q.shape[-1] == 256 else "attention", self.device
        tokens, heads, width = q.shape
        key_heads = k.shape[1]
        group = heads // key_heads
        step, stride = 32 // group, (width + 31) // 32 * 32 + 16
        pieces, start = [], 0
        for length in lengths:
            pieces += [(first, min(step, start + length - first), start) for first in range(start, start + length, step)]
            start += length
        pieces.sort(key=lambda piece: (piece[2] - piece[0], piece[0]))

        def body():
            out = device.output(q.shape)
            device.launch(kernel, (len(pieces), key_heads), 256, device.upload(q), device.upload(k), device.upload(v), out,
                          device.upload(np.int32(pieces)), key_heads, group, width, scale, cap, window, shared=4 * (2 * 32 * stride + 32 * 36))
            return [device.fetch(out)]

        return self.twice(kernel, body, detail)[0]

    def attention(self) -> None:
        kernel = "attention"

        def inputs(tokens, key_heads, group, width, spread):
            """Returns random q, k, v. Scores have a standard deviation of about `spread` at a scale of 1 / sqrt(width)."""
            return self.normal(tokens, key_heads * group, width, scale=spread), self.normal(tokens, key_heads, width), self.normal(tokens, key_heads, width)

        lengths = [1, 31, 32, 33, 100]
        for width in [4, 20, 32, 64, 256]:
            for group in [1, 2, 3, 4]:
                for key_heads, window, cap in [(2, 0, 0.0), (1, 0, 50.0), (1, 5, 50.0), (2, 16, 0.0), (1, 16, 50.0), (1, 5, 0.0)]:
                    scale = float(np.float32(width**-0.5))
                    q, k, v = inputs(sum(lengths), key_heads, group, width, 2)
                    detail = f"group {group}, window {window}, cap {cap:g}"
                    out = self.run_attention(q, k, v, lengths, scale, cap, window, f"width {width}, {detail}")
                    case = f"width {width}, groups of 1 to 4, windows 0, 5, 16, caps 0, 50"
                    self.near("attention_256" if width == 256 else kernel, case, 2e-6, out, self.attended(q, k, v, lengths, scale, cap, window), detail)
        for group, lengths in [(8, [40, 3]), (32, [5, 34])]:
            q, k, v = inputs(sum(lengths), 1, group, 32, 2)
            out = self.run_attention(q, k, v, lengths, 0.2, 0.0, 0, f"group {group}")
            self.near(kernel, "groups of 8 and 32", 2e-6, out, self.attended(q, k, v, lengths, float(np.float32(0.2)), 0.0, 0), f"group {group}")
        lengths = [33, 70]
        for cap in (0.0, 50.0):
            q, k, v = inputs(sum(lengths), 1, 2, 64, 30)
            out = self.run_attention(q, k, v, lengths, 0.125, cap, 0, f"large scores, cap {cap:g}")
            self.near(kernel, "scores of magnitude 30 to 100, caps 0, 50", 1e-5, out, self.attended(q, k, v, lengths, 0.125, cap, 0), f"cap {cap:g}")
        lengths = [40, 33, 40]
        q, k, v = inputs(sum(lengths), 2, 2, 20, 2)
        reference = self.attended(q, k, v, lengths, 0.25, 50.0, 0)
        for x in (q, k, v):
            x[40:73] = np.nan
        out = self.run_attention(q, k, v, lengths, 0.25, 50.0, 0, "NaN in a document")
        others = np.r_[0:40, 73:113]
        self.near(kernel, "beside a document of NaN", 2e-6, out[others], reference[others])
        width, group, key_heads, lengths, windows, caps = self.sizes.documents
        scale = float(np.float32(width**-0.5))
        for window in windows:
            for cap in caps:
                q, k, v = inputs(sum(lengths), key_heads, group, width, 2)
                detail = f"window {window}, cap {cap:g}"
                out = self.run_attention(q, k, v, lengths, scale, cap, window, detail)
                case = f"width {width}, {key_heads} x {group} heads, documents of {', '.join(map(str, lengths))}"
                self.near("attention_256" if width == 256 else kernel, case, 2e-6, out, self.attended(q, k, v, lengths, scale, cap, window), detail)

    # Results

    def run_predictions(self, logits: np.ndarray, chunks: int, cap: float, following: np.ndarray, detail: str):
        """Returns the partitions, cross-entropy, entropy, and the first row that is not finite."""
        device, (rows, vocabulary) = self.device, logits.shape
        step = -(-vocabulary // chunks)
        step = (step + 7) // 8 * 8

        def reduce():
            following_here, partitions = device.upload(following), device.output(rows, partition)
            for first in range(0, vocabulary, step):
                chunk = np.ascontiguousarray(logits[:, first : first + step])
                device.launch("reduce_logits", rows, block(chunk.shape[1]), device.upload(chunk), chunk.shape[1], first, cap, following_here,
                              partitions, int(first == 0))
            return [device.fetch(partitions)]

        (partitions,) = self.twice("reduce_logits", reduce, detail)

        def finish():
            out = device.output(2 * rows + 1)
            device.write(out, np.int32([0x7F7F7F7F]), 8 * rows)
            device.launch("finish_predictions", (rows + 127) // 128, 128, device.upload(partitions), device.upload(following), rows, out,
                          out.address + 4 * rows, out.address + 8 * rows)
            return [device.fetch(out)]

        (out,) = self.twice("finish_predictions", finish, detail)
        return partitions, out[:rows], out[rows : 2 * rows], int(out[2 * rows :].view(np.int32)[0])

    def predictions(self) -> None:
        for vocabulary, chunks, rows in self.sizes.vocabularies:
            for cap in (0.0, 30.0):
                detail = f"{rows} rows, cap {cap:g}"
                # The predictions range from nearly uniform to nearly certain. In row 0 all logits are equal. In row 1
                # one token has all probability.
                logits = self.normal(rows, vocabulary) * self.random.uniform(0.1, 8, (rows, 1)).astype(np.float32)
                logits += self.random.uniform(-10, 10, (rows, 1)).astype(np.float32)
                logits[0] = 1.5
                logits[1, vocabulary // 2] = 90
                following = self.random.integers(0, vocabulary, rows).astype(np.int32)
                following[1] = vocabulary // 2
                following[2::5] = -1
                partitions, loss, entropy, first = self.run_predictions(logits, chunks, cap, following, f"{vocabulary} tokens, {detail}")

                wanted = logits.astype(np.float64)
                if cap:
                    wanted = np.tanh(wanted / cap) * cap
                largest = wanted.max(axis=1)
                wanted -= largest[:, None]
                e = np.exp(wanted)
                total, weighted = e.sum(axis=1), np.where(e > 0, wanted * e, 0).sum(axis=1)
                target = np.where(following >= 0, wanted[np.arange(rows), following], np.log(total))
                name = f"{vocabulary} tokens in {chunks} chunks"
                self.near("reduce_logits", f"{name}: largest", 6e-7, partitions["largest"], largest, detail)
                # Corrects for the rounding of the largest logit (up to 5e-6), because it shifts the sums.
                shift = partitions["largest"] - largest
                sums, means = partitions["sum"] * np.exp(shift), partitions["weighted"] / partitions["sum"] + shift
                self.near("reduce_logits", f"{name}: sum", 1e-5, sums, total, detail)
                self.near("reduce_logits", f"{name}: mean logit", 5e-6, means + largest, weighted / total + largest, detail)
                self.near("finish_predictions", f"{name}: cross-entropy", 2e-6, loss, np.log(total) - target, detail)
                self.exact("finish_predictions", "cross-entropy without a next token", loss[following < 0], np.zeros(sum(following < 0), np.float32), detail)
                self.near("finish_predictions", f"{name}: entropy", 2e-6, entropy, np.log(total) - weighted / total, detail)
                self.exact("finish_predictions", "all rows are finite", first, 0x7F7F7F7F, detail)
                lowest = float(min(loss.min(), entropy.min()))
                self.exact("finish_predictions", "nothing is below zero", int(lowest < 0), 0, f"{name}, {lowest}")

                if rows < 5:
                    continue
                for bad, places in [(np.nan, [2]), (np.inf, [1, 4]), (-np.inf, [4, 3]), (np.nan, [rows - 1]), (np.inf, [0])]:
                    spoilt = logits.copy()
                    for row in places:
                        spoilt[row, self.random.integers(0, vocabulary)] = bad
                    detail = f"{bad} in rows {places} of {rows} x {vocabulary}, cap {cap:g}"
                    partitions, spoilt_loss, _, first = self.run_predictions(spoilt, chunks, cap, following, detail)
                    self.exact("finish_predictions", "the first row with a NaN or an infinity", first, min(places), detail)
                    others = np.setdiff1d(np.arange(rows), places)
                    self.exact("reduce_logits", "rows beside one with a NaN or an infinity", partitions["non_finite"][others], np.zeros(len(others), "i4"), detail)
                    self.exact("finish_predictions", "rows beside one with a NaN or an infinity", spoilt_loss[others], loss[others], detail)
                    if vocabulary > 100_000:
                        break

    def run_jump_relu(self, pre, bias, threshold, floor, chunk, capacity, wanted, case, detail):
        """Runs jump_relu and compares with `wanted`, the columns of each row; values are pre + bias. Returns cursor[1]."""
        kernel, device, (rows, width) = "jump_relu", self.device, pre.shape
        values_of = pre + bias
        totals = np.int32([len(row) for row in wanted])

        def body():
            index = device.output(2 + 2 * rows, np.int32)
            device.write(index, np.zeros(2, np.int32))
            columns, values = device.output(capacity, np.int32), device.output(capacity, np.float32)
            bias_here, threshold_here = device.upload(bias), device.upload(threshold)
            for first in range(0, rows, chunk):
                part = pre[first : first + chunk]
                device.launch(kernel, len(part), 256, device.upload(part), bias_here, threshold_here, floor, width, first, capacity, index,
                              index.address + 8, index.address + 8 + 4 * rows, columns, values)
            index, columns, values = (device.fetch(buffer) for buffer in (index, columns, values))
            cursor, counts, offsets = index[:2], index[2 : 2 + rows], index[2 + rows :]
            self.exact(kernel, f"{case}: total and counts", np.r_[cursor[0], counts], np.r_[totals.sum(), totals], detail)
            # Rows are stored without gaps. All rows of a chunk are stored before those of the next chunk.
            order = np.lexsort((counts, offsets))
            ends = np.cumsum(counts[order], dtype=np.int64)
            self.exact(kernel, f"{case}: rows lie without gaps", offsets[order], (ends - counts[order]).astype(np.int32), detail)
            self.exact(kernel, f"{case}: rows lie without gaps", np.diff(order // chunk) < 0, np.zeros(rows - 1, bool), detail)
            stored = min(capacity, int(cursor[0]))
            found = []
            for row in range(rows):
                at = slice(min(int(offsets[row]), stored), min(int(offsets[row]) + int(counts[row]), stored))
                count = at.stop - at.start
                is_expected = count <= len(wanted[row])
                expected = np.resize(wanted[row], count).astype(np.int32) if count else np.zeros(0, np.int32)
                self.exact(kernel, f"{case}: columns", columns[at] if is_expected else columns[at] * 0 - 1, expected, detail)
                self.exact(kernel, f"{case}: values", values[at], values_of[row, expected].astype(np.float32), detail)
                found += [columns[at], values[at]]
            beyond = np.r_[columns[stored:].view(np.uint8), values[stored:].view(np.uint8)]
            self.exact(kernel, f"{case}: nothing is written beyond", beyond, np.full(len(beyond), device.poison, np.uint8), detail)
            # If the room is too small, the order of execution decides which rows get room. Then only `cursor` and
            # `counts` are compared.
            return [cursor, counts, *(found if cursor[0] <= capacity else [])]

        return int(self.twice(kernel, body, detail)[0][1])

    def jump_relu(self) -> None:
        kernel = "jump_relu"
        widths = ", ".join(str(width) for width, _, _ in self.sizes.features)
        for width, rows, chunk in self.sizes.features:
            for floor in (0.0, 0.5, -1.0):
                pre, bias = self.normal(rows, width), self.normal(width, scale=0.3)
                threshold = self.random.uniform(-0.3, 2.5, width).astype(np.float32)
                # Some values equal the threshold (or the floor, if the floor is higher). Some values are the next
                # float above or below.
                bias[::3] = 0
                edge = np.maximum(threshold, np.float32(floor))
                choice = self.random.integers(0, 4, (rows, width))
                for number, value in [(1, edge), (2, np.nextafter(edge, np.float32(np.inf))), (3, np.nextafter(edge, np.float32(-np.inf)))]:
                    pre = np.where((choice == number) & (bias == 0), value, pre)
                if width > 2000:  # few fire
                    threshold += 2
                value = pre + bias
                wanted = [np.flatnonzero(row > np.maximum(threshold, np.float32(floor))).astype(np.int32) for row in value]
                total = sum(map(len, wanted))
                detail = f"width {width}, {rows} rows in chunks of {chunk}, floor {floor:g}"
                run = functools.partial(self.run_jump_relu, pre, bias, threshold, floor, chunk)
                for capacity in (total, total + 300):
                    flag = run(capacity, wanted, f"widths {widths}", f"{detail}, room for {capacity}")
                    self.exact(kernel, "finite pre-activations raise no flag", flag, 0, detail)
                for capacity in {total // 3, max(total - 1, 0)}:
                    run(capacity, wanted, "too little room", f"{detail}, {capacity} of {total}")
            none = [np.zeros(0, np.int32)] * rows
            self.run_jump_relu(pre, bias, threshold + np.float32(100), 0.0, chunk, rows, none, "nothing fires", f"width {width}")
            everything = [np.arange(width, dtype=np.int32)] * rows
            self.run_jump_relu(np.abs(pre) + 1, np.abs(bias), threshold * 0, 0.0, chunk, rows * width, everything, "everything fires", f"width {width}")
            for bad in (np.nan, np.inf, -np.inf):
                spoilt = pre.copy()
                row, column = self.random.integers(0, rows), self.random.integers(0, width)
                spoilt[row, column] = bad
                wanted = [np.flatnonzero(row > np.maximum(threshold, np.float32(-1))).astype(np.int32) for row in spoilt + bias]
                flag = self.run_jump_relu(spoilt, bias, threshold, -1.0, chunk, rows * width, wanted, "beside a NaN or an infinity", f"width {width}")
                self.exact(kernel, "a NaN or an infinity raises the flag", flag, 1, f"{bad} at {row}, {column} of {rows} x {width}")

    def first_non_finite_row(self) -> None:
        kernel, device = "first_non_finite_row", self.device
        for width in self.sizes.widths:
            rows = max(self.sizes.rows, 5)
            for bad in [[], [(rows - 1, width - 1, np.nan)], [(3, 0, np.nan), (1, width // 2, np.inf)], [(0, width - 1, -np.inf), (2, 0, np.nan)],
                        [(row, 0, np.nan) for row in range(2, rows)]]:
                x = self.normal(rows, width) * np.float32(1e37)
                for row, column, value in bad:
                    x[row, column] = value

                def body():
                    result = device.upload(np.int32([0x7F7F7F7F]))
                    device.launch(kernel, rows, block(width), device.upload(x), width, result)
                    return [device.fetch(result)]

                (out,) = self.twice(kernel, body)
                case = "a NaN or an infinity" if bad else "all rows are finite"
                self.exact(kernel, case, out, np.int32([min((row for row, _, _ in bad), default=0x7F7F7F7F)]), f"width {width}, {bad[:3]}")

    # Products

    def products(self) -> None:
        if not self.device.blas:
            return
        for size in self.sizes.products:
            self.products_of(*size)

    def products_of(self, rows, inner, outputs) -> None:
        kernel, device = "products", self.device

        def run(x, weights, by_outputs, form, row_range, output_range, detail):
            """As CUDABackend.multiply. `weights`: (outputs, inner) or (inner, outputs). form 0: bfloat16; 1, 2: the number of parts."""
            parts, weight_parts = (2 if form else 1), max(form, 1)
            scale = scale_of(weights) if form else np.float32(1)
            row_stride, part_stride = (inner * weight_parts, inner) if by_outputs else (outputs, inner * outputs)
            stored_rows, width = weights.shape

            def body():
                operand = device.output(rows * inner * parts, np.uint16)
                device.launch("split_rows", rows, block(inner), device.upload(x), operand, parts, inner)
                data = device.output(weights.size * weight_parts, np.uint16)
                device.launch("split_weights", min((weights.size + 255) // 256, 16 * device.processors), 256, device.upload(weights), 0, stored_rows,
                              width, form, scale, data, row_stride, part_stride, None)
                out = device.output((len(row_range), len(output_range)))
                first_output = output_range[0] * (row_stride if by_outputs else 1)

                def product(x_part, k, factor, is_adding, start=0):
                    device.multiply(data.address + 2 * (first_output + start * (1 if by_outputs else outputs)), row_stride if by_outputs else outputs,
                                    by_outputs, operand.address + 2 * ((row_range[0] * parts + x_part) * inner + start), inner * parts, 2 if form else 14,
                                    len(output_range), len(row_range), k, factor, is_adding, out)

                if form == 0:
                    product(0, inner, 1, False)
                else:
                    unscale = np.float32(1) / (scale * activation_scale)
                    product(0, weight_parts * inner, unscale / low_scale, False)
                    pieces = -(-inner // 4608)
                    step = -(-(-(-inner // pieces)) // 64) * 64
                    for start in range(0, inner, step):
                        product(1, min(step, inner - start), unscale, True, start)
                return [device.fetch(out)]

            return self.twice(kernel, body, detail)[0]

        heavy = self.normal(rows, inner)
        heavy[:, self.random.choice(inner, 4, replace=False)] *= np.float32(1000)
        heavy[:, self.random.choice(inner, inner // 10, replace=False)] *= np.float32(1e-6)
        for name, x in [("normal activations", self.normal(rows, inner)), ("heavy-tailed activations", heavy)]:
            for by_outputs in (True, False):
                shape = (outputs, inner) if by_outputs else (inner, outputs)
                spread = np.exp(2 * self.normal(*shape)) * self.normal(*shape, scale=0.02)
                for form, held, weights in [(1, "one part, exact", from_bfloat16(to_bfloat16(spread))), (2, "two parts", spread), (0, "bfloat16", spread)]:
                    case = f"{inner} inner, {name}, weights {'' if form == 0 else 'in '}{held}, {'outputs' if by_outputs else 'inputs'} as rows"
                    reference = x.astype(np.float64) @ (weights.T if by_outputs else weights).astype(np.float64)
                    limit = 1e-5 if form else 1e-2
                    out = run(x, weights, by_outputs, form, range(rows), range(outputs), case)
                    self.near(kernel, case, limit, out, reference)
                    some, few = range(3, rows - 2), range(16, outputs - 8)
                    out = run(x, weights, by_outputs, form, some, few, f"{case}, a range")
                    self.near(kernel, case, limit, out, reference[some.start : some.stop, few.start : few.stop], "a range of rows and outputs")

    def all(self) -> None:
        parts = [self.split_weights, self.split_rows, self.embed_rows, self.rms_norm, self.add_rms_norm, self.add, self.rotate, self.attention,
                 self.geglu, self.predictions, self.jump_relu, self.first_non_finite_row, self.products]
        try:
            for number, part in enumerate(parts):
                # A new generator for each part, so that the inputs of a part do not depend on the parts before it.
                self.random = np.random.default_rng([self.seed, number])
                part()
                self.show()
        except DeviceFailure as failure:
            self.put(part.__name__, "ends", 1, 0, str(failure))
            return self.show()
        left = sorted(set(self.device.parameters) - set(self.device.functions))
        self.put("all", f"{len(self.device.parameters)} kernels have been launched", len(left), 0, ", ".join(left))
        self.show()

    def show(self) -> None:
        """Prints the rows that were added since the last call."""
        if not self.is_quiet:
            for row in list(self.rows.values())[self.printed :]:
                print(row.line(), flush=True)
        self.printed = len(self.rows)

def run_orders(given: argparse.Namespace) -> tuple[str, list[Row]]:
    """Runs this script once per order of the stand-in's threads. Returns the device's name and the rows with the worst errors."""
    rows: dict[tuple[str, str], Row] = {}
    digests: dict[str, set] = {}
    name, orders = "no device", given.orders.split(",")
    with tempfile.TemporaryDirectory() as work:
        for order in orders:
            command = [sys.executable, __file__, "--json", f"{work}/rows", "--quiet", "--seed", str(given.seed), "--driver", given.driver]
            for option in ("runtime", "blas", "sizes"):
                if getattr(given, option):
                    command += [f"--{option}", getattr(given, option)]
            status = subprocess.run(command, env={**os.environ, "FAKE_CUDA_ORDER": order}).returncode
            path = pathlib.Path(work, "rows")
            done = json.loads(path.read_text()) if path.exists() else {"device": name, "rows": [], "digests": {}}
            path.unlink(missing_ok=True)
            name = done["device"]
            for kernel, case, limit, error, is_ok, note in done["rows"]:
                row = rows.setdefault((kernel, case), Row(kernel, case, limit))
                row.take(math.nan if error is None else error, is_ok, f"order {order}: {note}")
            is_ended = status == 0 or any(not row[4] for row in done["rows"])
            ends = rows.setdefault(("all", "every order ends"), Row("all", "every order ends", 0))
            ends.take(0 if is_ended else 1, is_ended, f"order {order}: exit status {status}")
            for kernel, digest in done["digests"].items():
                digests.setdefault(kernel, set()).add(digest)
    for kernel, found in digests.items():
        row = Row(kernel, f"the same bytes in orders {', '.join(orders)}", 0)
        row.take(len(found) - 1, len(found) == 1, "")
        rows[kernel, row.case] = row
    return name, list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    environment = os.environ.get
    parser.add_argument("--driver", default=environment("SAE_EXTRACT_CUDA_DRIVER_LIB") or "libcuda.so.1", help="path or name of the driver's library")
    parser.add_argument("--runtime", default=environment("SAE_EXTRACT_CUDART_LIB"), help="path of libcudart; default: the driver's library if it contains the runtime, otherwise searched")
    parser.add_argument("--blas", default=environment("SAE_EXTRACT_CUBLAS_LIB"), help="path of libcublas; default: like --runtime")
    parser.add_argument("--sizes", choices=list(all_sizes), help="default: large on a GPU, small on the stand-in")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1000 % 10**9, help="seed of the inputs; default: from the clock")
    parser.add_argument("--orders", help="orders of the stand-in's threads, such as 0,1,7, each in a separate process")
    parser.add_argument("--json", help="write the rows to this file")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    given = parser.parse_args()
    start = time.monotonic()
    if not given.quiet:
        print(f"seed {given.seed}\n{heading}", flush=True)
    missing = ""
    if given.orders:
        name, rows = run_orders(given)
        for row in rows:
            print(row.line())
    else:
        try:
            device = Device(given)
        except DeviceFailure as failure:
            sys.exit(f"checks/kernels.py: {failure}")
        given.sizes = given.sizes or ("small" if device.is_fake else "large")
        checks = Checks(device, all_sizes[given.sizes], given.seed)
        checks.is_quiet = given.quiet
        checks.all()
        name, rows = device.name, list(checks.rows.values())
        missing = "" if device.blas else "; cuBLAS was not found, so products were not checked"
        if given.json:
            # JSON has no NaN.
            listed = [[row.kernel, row.case, row.limit, None if math.isnan(row.error) else row.error, row.is_ok, row.note] for row in rows]
            digests = {kernel: digest.hexdigest() for kernel, digest in checks.digests.items()}
            pathlib.Path(given.json).write_text(json.dumps({"device": name, "rows": listed, "digests": digests}))
    failed = [row for row in rows if not row.is_ok]
    if not given.quiet:
        sizes = f", {given.sizes} sizes" if given.sizes else ""
        verdict = f"{len(failed)} of {len(rows)} checks failed" if failed else f"all {len(rows)} checks passed"
        print(f"{name}{sizes}, seed {given.seed}: {verdict} in {time.monotonic() - start:.1f} s{missing}")
    sys.exit(1 if failed or not rows else 0)


if __name__ == "__main__":
    main()
