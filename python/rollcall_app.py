"""What authors of Python halves import, and the runner that such a half is run by: one file, no dependencies.

    # server.py
    import rollcall_app
    from rollcall_app import OutgoingMessage

    @rollcall_app.server
    def main(grid, context):
        messages = [OutgoingMessage(node.id, "query", {"greeting": "hello"}) for node in grid.nodes(min_count=2)]
        for reply in grid.send_and_receive(messages):
            context.log.info(f"{reply.node}: {reply.error or reply.content['answer']}")

    # node.py
    import rollcall_app

    @rollcall_app.query
    def query(message, context):
        return {"answer": f"{message.content['greeting']} from {context.node_config['name']}"}

The function below `@server` is called once; what it returns is the result of the run, and what it raises is why the run failed.
A handler is given a message and a context, and returns a dict, or nothing. Contents are dicts of numbers, texts, truth
values, bytes, arrays of numbers and dicts. Arrays come as `NumberArray`, which looks into the very memory that was
received (`.numpy()` copies nothing either); what is sent may also hold `array.array`, numpy arrays, or whatever
else has a buffer of numbers. Whole numbers come as int, however they were sent. Times are in seconds.

As a program (`python3 rollcall_app.py SOCKET`, with a token on standard input) it speaks docs/app-host-protocol.md: it holds the app
of one run, and its end is the end of whatever the app does. The app runs in the main thread. The socket and standard input are
read by threads of their own; a server half has one more, which writes. The sections below carry the names of the files in
src/app-host/runner/ that do the same for JavaScript. Contents are those of src/app/content.ts, byte for byte.
"""

from __future__ import annotations

import array
import collections
import contextlib
import hashlib
import json
import math
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = [
    "Context",
    "Grid",
    "GridError",
    "GridNode",
    "GridProgress",
    "GridReply",
    "Log",
    "Message",
    "MessageFailure",
    "NumberArray",
    "OutgoingMessage",
    "Replies",
    "ReplyCounts",
    "ServerContext",
    "evaluate",
    "handler",
    "query",
    "server",
    "train",
]

# --- For authors: src/app/app.ts ---------------------------------------------------------------------------------------

_handlers: dict[str, Callable[[Message, Context], dict | None]] = {}
_server_halves: list[Callable[[Grid, ServerContext], Any]] = []


def server(function):
    """Makes a function the server half: it is called once, with a `Grid` and a `ServerContext`. What it returns (what JSON holds, at
    most 64 KiB) is the result of the run; what it raises is why the run failed."""
    if not callable(function):
        raise TypeError("the server half must be a function: @rollcall_app.server above def main(grid, context)")
    if _server_halves:
        raise ValueError("there are two server halves")
    _server_halves.append(function)
    return function


def handler(message_type: str):
    """Makes a function the handler of messages of a type: `@handler("scores")`."""
    if not isinstance(message_type, str) or message_type == "":
        raise TypeError('a handler is for a type: @rollcall_app.handler("train")')

    def register(function):
        if not callable(function):
            raise TypeError(f"the handler of {message_type} is no function")
        if message_type in _handlers:
            raise ValueError(f"there are two handlers of the type {message_type}")
        _handlers[message_type] = function
        return function

    return register


def train(function):
    return handler("train")(function)


def evaluate(function):
    return handler("evaluate")(function)


def query(function):
    return handler("query")(function)


class GridError(Exception):
    """The grid refuses, or waits no longer. `code`: REQUEST_INVALID for a mistake of the app, DEADLINE_EXCEEDED when there are too
    few nodes in time, RUN_REFUSED once the run is being stopped or the server half has ended."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class GridNode(NamedTuple):
    """A node as the server half sees it."""

    id: str
    """Decimal."""
    name: str
    """Empty when it has none."""
    labels: Mapping[str, str]


class OutgoingMessage:
    """A message to one node."""

    __slots__ = ("content", "group", "node", "ttl", "type")

    def __init__(self, node: str, message_type: str, content: dict, group: str = "", ttl: float | None = None):
        self.node = node
        """A node's id."""
        self.type = message_type
        """The handler it is for: `train`, `evaluate`, `query`, or one of the app's own."""
        self.content = content
        """Large arrays of it must not change until the message is sent: until `send` returns, or its answer comes."""
        self.group = group
        """For the app's own order, such as a round."""
        self.ttl = ttl
        """For how many seconds it waits for the node and its answer; defaults to an hour, at most a week."""


class MessageFailure(NamedTuple):
    """Why a message has no content for an answer; docs/apps.md lists the codes."""

    code: str
    message: str

    def __str__(self):
        return f"{self.code}: {self.message}"


class GridReply(NamedTuple):
    """The answer to one message: a content, or an error."""

    message: int
    """The number of the message, counted in the run."""
    node: str
    content: dict | None
    error: MessageFailure | None


class GridProgress(NamedTuple):
    """How far a handler says it is."""

    message: int
    node: str
    fraction: float
    """0 to 1."""
    note: str


class ReplyCounts(NamedTuple):
    """Of some messages: accepted by the link, answered by a content or an error, and answered by an error."""

    sent: int
    answered: int
    failed: int


class Message:
    """What a handler is given first."""

    def __init__(self, message, message_type, group, content, attempt, created_at):
        self.message: int = message
        """Counted in the run."""
        self.type: str = message_type
        self.group: str = group
        self.content: dict = content
        self.attempt: int = attempt
        """Above 1 when a handler may have been entered with it before, and the agent died."""
        self.created_at: int = created_at
        """Milliseconds since 1970."""


class Context:
    """What a handler is given besides its message."""

    def __init__(self, half, number, state, is_cancelled):
        self.node_id: str = half.node_id
        self.run_id: str = half.run_id
        self.node_config: dict[str, str | int | float | bool] = half.node_config
        """What the agent was started with: `--node-config`."""
        self.run_config: dict[str, str | int | float | bool] = half.run_config
        self.log: Log = half.log
        self._state = state
        self._send = half.send
        self._number = number
        self._is_cancelled = is_cancelled
        self._told_at = -math.inf

    @property
    def state(self) -> dict:
        """A dict that is kept between the messages of a run, on this node alone. What a handler leaves in it is on the disk
        together with its reply; what one that raised left is undone."""
        return self._state

    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._is_cancelled.is_set()

    def progress(self, fraction: float, note: str = "") -> None:
        """For progress bars: 0 to 1. More than ten a second are passed over."""
        now = time.monotonic()
        if now - self._told_at < _PROGRESS_EVERY:
            return
        self._told_at = now
        fraction = float(fraction)
        within = min(1.0, max(0.0, fraction)) if fraction == fraction else 0.0
        note = _replace_halves(str(note))[:_NOTE_LENGTH]
        self._send("progress", {"number": self._number, "fraction": within, "note": note})


class ServerContext:
    """What a server half is given besides the grid."""

    def __init__(self, run_id, config, log, is_stopped):
        self.run_id: str = run_id
        """Decimal."""
        self.config: dict[str, str | int | float | bool] = config
        """Settings of the run: those of `app.json`, with what `-c name=value` changed."""
        self.log: Log = log
        self._is_stopped = is_stopped

    def stopped(self) -> bool:
        """Whether the run is being stopped; a few seconds later the process is ended."""
        return self._is_stopped.is_set()


class Log:
    """Lines that the operator of the run reads. What is printed goes there too, line by line."""

    def __init__(self, write):
        self._write = write

    def debug(self, text) -> None:
        self._write("debug", _log_text(text))

    def info(self, text) -> None:
        self._write("info", _log_text(text))

    def warn(self, text) -> None:
        self._write("warn", _log_text(text))

    warning = warn

    def error(self, text) -> None:
        self._write("error", _log_text(text))


# --- Contents: src/app/content.ts --------------------------------------------------------------------------------------

_MAGIC = b"RCC1"
_HEAD_BYTES = 1024 * 1024
_DEPTH = 16
_VALUES = 10_000
_DIMENSIONS = 16
_SAFE = 2**53 - 1
_CODES = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_TYPES = {code: name for name, code in _CODES.items()}
_ODD_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}


class ContentError(ValueError):
    """These are no bytes of a content, or this is nothing that can be one."""


class NumberArray:
    """Numbers of one type in rows: the last dimension changes fastest. Nothing is copied."""

    def __init__(self, data, shape=None):
        """`data`: anything with a buffer of numbers, such as array.array or a numpy array; its own shape by default."""
        view = memoryview(data)
        self.typecode = _typecode_of(view)
        """One of array.array: b B h H i I q Q f d."""
        self.data = _flat(view, self.typecode)
        """A memoryview of the numbers, in one dimension."""
        self.shape = tuple(view.shape if shape is None else shape)
        whole = all(isinstance(each, int) and 0 <= each <= _SAFE for each in self.shape)
        if not whole or len(self.shape) > _DIMENSIONS or _product(self.shape) != len(self.data):
            raise ContentError(f"a shape of {list(self.shape)} does not hold {len(self.data)} numbers")

    def array(self):
        """A copy, as array.array."""
        copy = array.array(self.typecode)
        copy.frombytes(_bytes_of(self))
        return copy

    def numpy(self):
        """A numpy array on the same memory; numpy must be installed."""
        import numpy

        return numpy.frombuffer(self.data, dtype=numpy.dtype(self.typecode)).reshape(self.shape)

    def tolist(self):
        """Numbers in lists, of which each dimension holds those of the next."""
        return _nest(list(self.data), self.shape)

    def __len__(self):
        return len(self.data)

    def __iter__(self):
        return iter(self.data)

    def __eq__(self, other):
        if not isinstance(other, NumberArray):
            return NotImplemented
        mine = (self.typecode, self.shape, self.data.tobytes())
        return mine == (other.typecode, other.shape, other.data.tobytes())

    __hash__ = None

    def __repr__(self):
        return f"NumberArray({_TYPES[self.typecode]}, shape={self.shape})"


def _typecode_of(view):
    """Of the same size wherever it is: `l` is as long as the machine likes."""
    code = view.format.lstrip("@=<") if len(view.format) <= 2 else view.format
    if code in ("l", "L", "n", "N"):
        signed = code in ("l", "n")
        code = {4: "iI", 8: "qQ"}[view.itemsize][0 if signed else 1]
    if code not in _TYPES:
        raise ContentError(f"unsupported array type: {view.format}")
    return code


def _flat(view, code):
    if view.nbytes == 0:
        # There is no cast of nothing.
        return memoryview(array.array(code))
    if not view.c_contiguous:
        view = memoryview(view.tobytes())
    return view.cast("B").cast(code)


def _bytes_of(numbers):
    return numbers.data.cast("B") if numbers.data.nbytes else memoryview(b"")


def _nest(numbers, shape):
    if len(shape) < 2:
        return numbers if shape else numbers[0]
    step = len(numbers) // max(1, shape[0])
    return [_nest(numbers[row * step : (row + 1) * step], shape[1:]) for row in range(shape[0])]


def _product(shape):
    product = 1
    for each in shape:
        product *= each
    return product


def _aligned(length):
    return (length + 7) // 8 * 8


def encode_content(content):
    """The parts to send one after the other; arrays and bytes are among them as they are, not copied."""
    _require_little_endian()
    if not isinstance(content, dict):
        raise ContentError(f'it is no dict, such as {{"loss": 0.5}}, but {type(content).__name__}')
    sections = []
    pieces = []
    _Encoder(sections, pieces).value(content, 0)
    text = "".join(pieces).encode()
    length = _aligned(8 + len(text)) - 8
    if length > _HEAD_BYTES:
        raise ContentError("it holds too many names and texts")
    parts = [_MAGIC + struct.pack("<I", length) + text.ljust(length)]
    for section in sections:
        parts.append(section)
        missing = _aligned(section.nbytes) - section.nbytes
        if missing:
            parts.append(memoryview(bytes(missing)))
    return [memoryview(part) for part in parts]


class _Encoder:
    """Writes the head of a content, and gathers its sections."""

    def __init__(self, sections, pieces):
        self._sections = sections
        self._write = pieces.append
        self._count = 0

    def value(self, value, depth):
        self._count += 1
        if self._count > _VALUES:
            raise ContentError(f"it holds more than {_VALUES} values")
        if depth > _DEPTH:
            raise ContentError(f"records lie more than {_DEPTH} deep")
        if isinstance(value, bool):
            self._write("true" if value else "false")
        elif isinstance(value, (int, float)):
            self._number(value)
        elif isinstance(value, str):
            self._write(_spell_text(value))
        elif isinstance(value, dict):
            self._record(value, depth)
        elif isinstance(value, (bytes, bytearray)):
            self._sections.append(memoryview(value))
            self._write(f'{{"bytes":{len(value)}}}')
        elif getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            # One number of numpy.
            self._count -= 1
            self.value(value.item(), depth)
        else:
            self._array(value)

    def _number(self, value):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if isinstance(value, int) and (math.isinf(number) or int(number) != value):
            raise ContentError(f"the whole number {value} is larger than numbers can be; arrays hold more")
        if not math.isfinite(number) or (number == 0 and math.copysign(1, number) < 0):
            odd = "NaN" if number != number else "-0" if number == 0 else spell_number(number)
            self._write(f'{{"number":"{odd}"}}')
        else:
            self._write(spell_number(number))

    def _record(self, value, depth):
        self._write('{"record":[')
        for index, (name, each) in enumerate(value.items()):
            if not isinstance(name, str):
                raise ContentError(f"a name in it is no text: {name!r}")
            self._write(("," if index else "") + "[" + _spell_text(name) + ",")
            self.value(each, depth + 1)
            self._write("]")
        self._write("]}")

    def _array(self, value):
        if not isinstance(value, NumberArray):
            try:
                value = NumberArray(value)
            except (TypeError, ValueError) as error:
                if isinstance(error, ContentError):
                    raise
                raise ContentError(
                    f"a value in it is no number, text, truth value, array, bytes or dict, but {type(value).__name__}; "
                    'numbers in a row travel as array.array("f", [1, 2])'
                ) from None
        self._sections.append(_bytes_of(value))
        shape = ",".join(map(str, value.shape))
        self._write(f'{{"array":"{_TYPES[value.typecode]}","shape":[{shape}]}}')


def _spell_text(text):
    if any("\ud800" <= each <= "\udfff" for each in text):
        raise ContentError("a text in it holds half a character")
    return json.dumps(text, ensure_ascii=False)


def spell_number(number):
    """As JavaScript spells it (ECMA-262, Number::toString); `number` is a float."""
    if number != number:
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The point is so many digits after the first of them.
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    shown = ("+" if power > 0 else "-") + str(abs(power))
    return sign + digits[0] + ("." + digits[1:] if count > 1 else "") + "e" + shown


def decode_content(data):
    """Arrays look into the memory that was given. ContentError for what no encoder would write."""
    _require_little_endian()
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    if len(view) < 8 or view[:4] != _MAGIC:
        raise _malformed("it does not begin as one")
    (length,) = struct.unpack_from("<I", view, 4)
    if length > _HEAD_BYTES or 8 + length > len(view) or length % 8 != 0:
        raise _malformed("the length of its head is wrong")
    decoder = _Decoder(view, 8 + length)
    content = decoder.value(_parse_head(bytes(view[8 : 8 + length])), 0)
    if not isinstance(content, dict):
        raise _malformed("it is no record")
    decoder.require_end()
    return content


def _parse_head(data):
    """JSON as it is written here: what is spelled or padded in another way is no content."""
    try:
        text = data.decode().rstrip(" ")
        head = json.loads(text, parse_int=float, parse_constant=_refuse_constant)
        spelled = _respell(head).encode()
    except (ValueError, RecursionError):
        raise _malformed("its head is no plain JSON") from None
    if spelled.ljust(_aligned(8 + len(spelled)) - 8) != data:
        raise _malformed("its head is no plain JSON")
    return head


def _refuse_constant(name):
    raise ValueError(name)


def _respell(head):
    if isinstance(head, bool) or head is None:
        return {True: "true", False: "false", None: "null"}[head]
    if isinstance(head, float):
        return spell_number(head)
    if isinstance(head, str):
        return json.dumps(head, ensure_ascii=False)
    if isinstance(head, list):
        return "[" + ",".join(map(_respell, head)) + "]"
    return "{" + ",".join(f"{_respell(name)}:{_respell(each)}" for name, each in head.items()) + "}"


class _Decoder:
    """Reads values from a head, and their sections in the same order."""

    def __init__(self, view, at):
        self._view = view
        self._at = at
        self._count = 0

    def require_end(self):
        if self._at != len(self._view):
            raise _malformed("something follows it")

    def value(self, head, depth):
        self._count += 1
        if self._count > _VALUES:
            raise _malformed(f"it holds more than {_VALUES} values")
        if depth > _DEPTH:
            raise _malformed("it is too deep")
        if isinstance(head, float):
            return int(head) if head.is_integer() and abs(head) <= _SAFE else head
        if isinstance(head, (str, bool)):
            return head
        kind = " ".join(head) if isinstance(head, dict) else ""
        if kind == "record" and isinstance(head["record"], list):
            return self._record(head["record"], depth)
        if kind == "array shape" and isinstance(head["array"], str) and head["array"] in _CODES:
            return self._array(_CODES[head["array"]], head["shape"])
        if kind == "bytes" and _is_length(head["bytes"]):
            return bytes(self._take(int(head["bytes"])))
        if kind == "number" and isinstance(head["number"], str) and head["number"] in _ODD_NUMBERS:
            return _ODD_NUMBERS[head["number"]]
        raise _malformed("a value in it is of no kind there is")

    def _record(self, entries, depth):
        record = {}
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise _malformed("a record in it is no list of names and values")
            name, head = entry
            if name in record:
                raise _malformed("a record in it is no list of names and values")
            record[name] = self.value(head, depth + 1)
        return record

    def _array(self, code, shape):
        if not isinstance(shape, list) or len(shape) > _DIMENSIONS or not all(map(_is_length, shape)):
            raise _malformed("invalid array shape")
        shape = [int(each) for each in shape]
        numbers = self._take(_product(shape) * struct.calcsize("=" + code))
        return NumberArray(memoryview(array.array(code)) if len(numbers) == 0 else numbers.cast(code), shape)

    def _take(self, length):
        start, end = self._at, self._at + _aligned(length)
        if end > len(self._view):
            raise _malformed("it ends too soon")
        if any(self._view[start + length : end]):
            raise _malformed("its padding is not empty")
        self._at = end
        return self._view[start : start + length]


def _is_length(value):
    return isinstance(value, float) and value.is_integer() and 0 <= value <= _SAFE


def _require_little_endian():
    if sys.byteorder != "little":
        raise ContentError("contents are for little-endian machines")


def _malformed(what):
    return ContentError(f"this is no content of an app: {what}")


# --- Frames: src/app-host/wire/frames.ts -------------------------------------------------------------------------------

_FRAME_HEAD_BYTES = 1024 * 1024
_FRAME_BODY_BYTES = 1024 * 1024 + 64 * 1024
_BYE_WITHIN = 1.0


class _ProtocolError(Exception):
    """The other side says what it may not."""


class _Unreachable(Exception):
    """Nobody is on the other side any more."""


class _Frames:
    """Frames on a socket. Any thread may send, one reads."""

    def __init__(self, connected):
        self._socket = connected
        self._turn = threading.Lock()

    def send(self, name, value, parts=()):
        head = json.dumps({name: value}, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
        size = sum(len(part) for part in parts)
        with self._turn:
            self._socket.sendall(struct.pack("<II", len(head), size) + head)
            for part in parts:
                self._socket.sendall(part)

    def read(self):
        """Name, value and body of the next one; None when there will be none."""
        prefix = self._read(8)
        if prefix is None:
            return None
        head_bytes, body_bytes = struct.unpack("<II", prefix)
        if head_bytes > _FRAME_HEAD_BYTES or body_bytes > _FRAME_BODY_BYTES:
            raise _ProtocolError("a frame is too long")
        head, body = self._read(head_bytes), self._read(body_bytes)
        if head is None or body is None:
            return None
        try:
            [(name, value)] = json.loads(head.decode()).items()
        except (ValueError, AttributeError, RecursionError):
            raise _ProtocolError("the head of a frame is no object with one member") from None
        if not isinstance(value, dict):
            raise _ProtocolError("the head of a frame is no object with one member")
        return name, value, body

    def bye(self, message):
        """Says why, if the other side still listens, and closes."""
        if self._turn.acquire(timeout=_BYE_WITHIN):
            # A frame that another thread is in the middle of is the last one.
            self._turn.release()
            with contextlib.suppress(OSError):
                self._socket.settimeout(_BYE_WITHIN)
                self.send("bye", {"message": message})
        self.close()

    def close(self):
        """Wakes the thread that reads, too."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self, length):
        data = bytearray(length)
        view = memoryview(data)
        at = 0
        while at < length:
            count = self._socket.recv_into(view[at:])
            if count == 0:
                return None
            at += count
        return data


# --- Contents and objects that travel: content.ts, objects.ts ----------------------------------------------------------

_INLINE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_MAX_CHUNKS = 2048
_CHUNKS_IN_FLIGHT = 4


class _ObjectError(Exception):
    """What an answer says instead of a content."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _OutgoingContent:
    """A content on its way into a frame: within the frame up to 64 KiB, as an object above. A small one is copied, since it may wait
    to be sent while the app goes on with its arrays."""

    def __init__(self, content):
        parts = encode_content(content)
        self.size = sum(len(part) for part in parts)
        self.is_object = self.size > _INLINE_BYTES
        self.parts = parts if self.is_object else [b"".join(parts)]
        self.manifest = _manifest_of(parts, self.size) if self.is_object else b""
        self.digest = _hex(self.manifest)

    def name(self):
        """What the frame that speaks of it says of it."""
        return {"object": {"digest": self.digest, "sizeBytes": self.size}} if self.is_object else {}

    def body(self):
        return [] if self.is_object else self.parts


def _manifest_of(parts, size):
    if size > _MAX_CHUNKS * _CHUNK_BYTES:
        raise ContentError(f"it has more than {_MAX_CHUNKS} MiB")
    digests = [hashlib.sha256() for _ in range(-(-size // _CHUNK_BYTES))]
    for chunk, hashed in enumerate(digests):
        for piece in _pieces(parts, chunk):
            hashed.update(piece)
    return _size_field(size) + b"".join(each.digest() for each in digests)


def _always():
    """Nothing ends the wait but the frame."""


class _Objects:
    """Contents above 64 KiB on one connection. The thread that reads the connection gives it the frames about objects; others wait
    for them on `news`, until `check` raises."""

    _WAYS = {"manifest": "read", "chunk": "read", "lost": "read", "wants": "write", "stored": "write", "refused": "write"}

    def __init__(self, send, news):
        self._send = send
        self._news = news
        self._open = {}
        self._is_closed = False

    def take(self, frame):
        """True for a frame about objects, which it took. One that nobody waits for any more is passed over."""
        name, value, _ = frame
        if name not in self._WAYS:
            return False
        with self._news:
            frames = self._open.get((self._WAYS[name], str(value.get("digest"))))
            if frames is not None:
                frames.append(frame)
                self._news.notify_all()
        return True

    def close(self):
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def read(self, digest, size, check=_always):
        """All of it."""
        with self._conversation("read", digest, check) as frames:
            self._send("get", {"digest": digest})
            name, _, manifest = self._next(frames, check)
            if name != "manifest":
                raise _ObjectError("OBJECT_LOST", "the content cannot be had any more")
            chunks = [bytes(manifest[at : at + 32]) for at in range(8, len(manifest), 32)]
            fits = 0 < size <= _MAX_CHUNKS * _CHUNK_BYTES and len(chunks) == -(-size // _CHUNK_BYTES)
            if not fits or _hex(manifest) != digest or manifest[:8] != _size_field(size):
                raise _ObjectError("OBJECT_LOST", "the manifest of the content is that of another")
            try:
                data = bytearray(size)
            except MemoryError:
                raise _ObjectError("APP_INVALID", f"a content of {size} bytes does not fit in memory") from None
            self._read_chunks(digest, chunks, data, frames, check)
            return data

    def _read_chunks(self, digest, chunks, data, frames, check):
        asked = done = 0
        failure = None
        while done < (len(chunks) if failure is None else asked):
            while failure is None and asked < len(chunks) and asked - done < _CHUNKS_IN_FLIGHT:
                self._send("get", {"digest": digest, "chunk": asked})
                asked += 1
            # All that was asked for has come before a failure is told, so that nothing of it comes into the next read.
            failure = self._put_chunk(self._next(frames, check), chunks, data) or failure
            done += 1
        if failure is not None:
            raise failure

    def _put_chunk(self, frame, chunks, data):
        name, value, body = frame
        if name != "chunk":
            return _ObjectError("OBJECT_LOST", "the content cannot be had any more")
        chunk = value.get("chunk")
        start = chunk * _CHUNK_BYTES if isinstance(chunk, int) else -1
        is_right = 0 <= start < len(data) and len(body) == min(_CHUNK_BYTES, len(data) - start)
        if not is_right or hashlib.sha256(body).digest() != chunks[chunk]:
            return _ObjectError("OBJECT_LOST", "a chunk of the content is another")
        data[start : start + len(body)] = body
        return None

    def write(self, content, check=_always):
        """Returns when all of it is on the other side's disk."""
        digest = content.digest
        with self._conversation("write", digest, check) as frames:
            self._send("put", {"digest": digest}, [content.manifest])
            name, value, _ = self._next(frames, check)
            if name == "wants":
                for chunk in _wanted_chunks(value.get("chunks"), content.size):
                    check()
                    self._send("chunk", {"digest": digest, "chunk": chunk}, _pieces(content.parts, chunk))
                    if frames:
                        break
                name, value, _ = self._next(frames, check)
            if name != "stored":
                raise _ObjectError("APP_INVALID", f"the content was refused: {value.get('message')}")

    @contextlib.contextmanager
    def _conversation(self, way, digest, check):
        """The frames of one object, for one thread at a time."""
        key = (way, digest)
        with self._news:
            while key in self._open:
                self._wait(check)
            frames = self._open[key] = collections.deque()
        try:
            yield frames
        finally:
            with self._news:
                del self._open[key]
                self._news.notify_all()

    def _next(self, frames, check):
        with self._news:
            while not frames:
                self._wait(check)
            return frames.popleft()

    def _wait(self, check):
        if self._is_closed:
            raise _Unreachable("the connection was closed while a content travelled")
        check()
        self._news.wait()


def _wanted_chunks(chunks, size):
    count = -(-size // _CHUNK_BYTES)
    if isinstance(chunks, list) and len(chunks) <= count and all(_is_whole(each) and 0 <= each < count for each in chunks):
        return chunks
    raise _ObjectError("APP_INVALID", "chunks are wanted that the content does not have")


def _pieces(parts, chunk):
    """Views of one chunk of all parts one after the other."""
    skip, missing = chunk * _CHUNK_BYTES, _CHUNK_BYTES
    pieces = []
    for part in parts:
        piece = part[skip : skip + missing]
        skip = max(0, skip - len(part))
        missing -= len(piece)
        if len(piece):
            pieces.append(piece)
    return pieces


def _size_field(size):
    return struct.pack(">Q", size)


def _hex(data):
    return hashlib.sha256(data).hexdigest()


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


# --- What went wrong in an app: failure.ts -----------------------------------------------------------------------------

_ERROR_BYTES = 4096


class _AppError(Exception):
    """The app does not load; the message is for its author."""


def _describe(error, folder, prefix=""):
    """The error, and where in the app it was raised, which is never cut off. Never raises, whatever the error is."""
    try:
        if isinstance(error, SyntaxError):
            text, filename, line = f"{type(error).__name__}: {error.msg}", error.filename or "", error.lineno
            place = f" ({os.path.relpath(filename, folder)}:{line})" if filename.startswith(folder + os.sep) else ""
            return _clip_before(prefix + text, place)
        text = str(error)
        if not isinstance(error, (GridError, _AppError)):
            text = f"{type(error).__name__}: {text}" if text else type(error).__name__
        text = text.replace(folder + os.sep, "")
        lines = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(folder + os.sep)]
        place = f" ({os.path.relpath(lines[-1].filename, folder)}:{lines[-1].lineno})" if lines else ""
        return _clip_before(prefix + text, place)
    except Exception:
        return prefix + "an error that cannot be shown"


def _clip_before(text, place):
    place = _replace_halves(place)
    return _clip(text, _ERROR_BYTES - len(place.encode())) + place


def _replace_halves(text):
    return text.encode(errors="replace").decode()


def _clip(text, limit=_ERROR_BYTES):
    return text.encode(errors="replace")[:limit].decode(errors="ignore")


# --- The connection of a runner: connection.ts -------------------------------------------------------------------------

_PROTOCOL = 1
_MAX_ARCHIVE_BYTES = 66 * 1024 * 1024
_MAX_STATE_BYTES = 16 * 1024 * 1024


class _Opened(NamedTuple):
    """A connection that was welcomed. Archive and state are empty when it was resumed."""

    frames: _Frames
    welcome: dict
    archive: bytearray
    state: bytearray


def _open_connection(path, token):
    """_Unreachable when nobody is there or it breaks off, _ProtocolError when the other side says bye or what it may not."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.connect(path)
    except OSError as error:
        connected.close()
        raise _Unreachable(f"nobody listens on the socket: {error.strerror}") from None
    frames = _Frames(connected)
    try:
        return _be_welcomed(frames, token)
    except _ProtocolError as error:
        frames.bye(str(error))
        raise
    except (_Unreachable, OSError):
        frames.close()
        raise _Unreachable("the connection was closed") from None


def _be_welcomed(frames, token):
    frames.send("run", {"protocol": _PROTOCOL, "token": token})
    welcome = _expect(frames, "welcome")[1]
    app, node = welcome.get("app"), welcome.get("node", {})
    is_fit = (
        welcome.get("protocol") == _PROTOCOL
        and welcome.get("half") in ("server", "node")
        and isinstance(welcome.get("run"), str)
        and isinstance(app, dict)
        and isinstance(app.get("entry"), str)
        and isinstance(welcome.get("config"), dict)
        and isinstance(node, dict)
        and (welcome["half"] == "server" or (isinstance(node.get("id"), str) and isinstance(node.get("config"), dict)))
    )
    if not is_fit:
        raise _ProtocolError("invalid welcome of a runner")
    if welcome.get("resumed") is True:
        return _Opened(frames, welcome, bytearray(), bytearray())
    archive = _gather(frames, "archive", welcome.get("archiveBytes"), _MAX_ARCHIVE_BYTES)
    state = _gather(frames, "state", welcome.get("stateBytes", 0), _MAX_STATE_BYTES)
    return _Opened(frames, welcome, archive, state)


def _expect(frames, name):
    frame = frames.read()
    if frame is None:
        raise _Unreachable("the connection was closed")
    if frame[0] == "bye":
        raise _ProtocolError(f"refused: {frame[1].get('message')}")
    if frame[0] != name:
        raise _ProtocolError(f'expected "{name}", found "{frame[0]}"')
    return frame


def _gather(frames, name, size, limit):
    if not _is_whole(size) or not 0 <= size <= limit:
        raise _ProtocolError(f'invalid size of "{name}"')
    data = bytearray()
    while len(data) < size:
        body = _expect(frames, name)[2]
        if not body or len(data) + len(body) > size:
            raise _ProtocolError(f'"{name}" has another length')
        data += body
    return data


def _from_json(value):
    """Integers that a number of JavaScript cannot hold come as text."""
    return int(value["integer"]) if isinstance(value, dict) else value


# --- The link, which a server half outlives: link.ts -------------------------------------------------------------------

_FIRST_PAUSE = 0.05
_MAX_PAUSE = 2.0
_GIVE_UP = 5 * 60.0
# So often it may be told bye and come again: what it sends anew may be what was wrong. A while without one, and they count no more.
_MAX_BYES = 3
_BYES_COUNT = 30.0


class _Connected(NamedTuple):
    frames: _Frames
    objects: _Objects


class _Link:
    """The connection of a server half: when it is lost, it is opened again, with growing pauses, for five minutes. What was on its
    way is for its sender to send again: `on_connected` says when. `news` guards everything a server half knows, and is notified of every
    change; what is said to need the lock is called with it held."""

    def __init__(self, first, open_again, news, clock=time):
        self.news = news
        self.current = None
        self.connections = 0
        self.outbox = collections.deque()
        """Small frames for the thread that writes; gone with the connection."""
        self._first = first
        self._open_again = open_again
        self._clock = clock
        self._byes = 0
        self._last_bye = ""

    def send(self, name, value):
        """Needs the lock. Nothing is sent while there is no connection."""
        if self.current is not None:
            self.outbox.append((name, value))
            self.news.notify_all()

    def with_objects(self, work, check):
        """Does the work on the connection there is, and again on the next one when that is lost meanwhile."""
        while True:
            with self.news:
                while self.current is None:
                    check()
                    self.news.wait()
                connected = self.current
            try:
                return work(connected.objects)
            except (_Unreachable, OSError):
                connected.frames.close()
                with self.news:
                    while self.current is connected:
                        check()
                        self.news.wait()

    def run(self, on_frame, on_connected):
        """Reads until `on_frame` gives True. _Unreachable when the link was lost for too long, _ProtocolError when it wants no more."""
        frames = self._first
        while True:
            served_from = self._clock.monotonic()
            if self._serve(frames, on_frame, on_connected):
                return
            if self._clock.monotonic() - served_from > _BYES_COUNT:
                self._byes = 0
            if self._byes >= _MAX_BYES:
                raise _ProtocolError(f"refused: {self._last_bye}")
            frames = self._reopen()

    def _serve(self, frames, on_frame, on_connected):
        """Until it is lost; True when there is nothing left to say."""
        connected = _Connected(frames, _Objects(frames.send, self.news))
        with self.news:
            self.current = connected
            self.connections += 1
            self.outbox.clear()
            on_connected()
            self.news.notify_all()
        try:
            return self._read(connected, on_frame)
        except _ProtocolError as error:
            frames.bye(str(error))
            return False
        except OSError:
            return False
        finally:
            with self.news:
                self.current = None
            connected.objects.close()
            frames.close()

    def _read(self, connected, on_frame):
        while True:
            frame = connected.frames.read()
            if frame is None:
                return False
            if connected.objects.take(frame):
                continue
            if frame[0] == "bye":
                self._byes += 1
                self._last_bye = str(frame[1].get("message"))
                continue
            with self.news:
                is_over = on_frame(frame)
                self.news.notify_all()
            if is_over:
                return True

    def _reopen(self):
        lost_at = self._clock.monotonic()
        pause = _FIRST_PAUSE
        while True:
            self._clock.sleep(pause)
            pause = min(_MAX_PAUSE, pause * 2)
            try:
                return self._open_again().frames
            except _Unreachable:
                if self._clock.monotonic() - lost_at > _GIVE_UP:
                    raise


# --- Lines of the log: log.ts, log-book.ts -----------------------------------------------------------------------------

_LINE_LENGTH = 4096
_MAX_LINES = 10_000


def _log_text(text):
    text = _replace_halves(str(text))
    return text if len(text) <= _LINE_LENGTH else text[: _LINE_LENGTH - 1] + "…"


class _LogBook:
    """What a server half has logged and the link does not yet have on its disk: numbered from 1, sent as fast as the link takes it, and
    again after a reconnect. It is bounded: when an app logs faster than that, the least important lines go first, counted."""

    def __init__(self, news):
        self._news = news
        self._lines = {}
        self._sequence = 0
        self._sent_to = 0
        self._lost = 0

    def write(self, level, text):
        with self._news:
            self._make_room()
            self._add(level, text)
            self._news.notify_all()

    def on_logged(self, up_to):
        """Needs the lock. The link has all lines up to this one."""
        for number in list(self._lines):
            if number > up_to:
                break
            del self._lines[number]

    def on_connected(self):
        """Needs the lock. Everything that is kept goes again."""
        self._sent_to = next(iter(self._lines), self._sequence + 1) - 1

    def next_line(self):
        """Needs the lock. The next one to send, or None."""
        while self._sent_to < self._sequence:
            self._sent_to += 1
            if self._sent_to in self._lines:
                return self._lines[self._sent_to]
        if self._lost == 0:
            return None
        self._add("warn", f"{self._lost} lines of the log were lost: too many came at once")
        self._lost = 0
        self._sent_to = self._sequence
        return self._lines[self._sequence]

    def _add(self, level, text):
        self._sequence += 1
        self._lines[self._sequence] = {
            "sequence": self._sequence,
            "at": int(time.time() * 1000),
            "level": level,
            "text": text,
        }

    def _make_room(self):
        if len(self._lines) < _MAX_LINES:
            return
        # Looking through all of them for each line that is written would take longer than the line is worth.
        least = [number for number, line in self._lines.items() if line["level"] in ("debug", "info")]
        leaving = (least or list(self._lines))[: _MAX_LINES // 10]
        for number in leaving:
            del self._lines[number]
        self._lost += len(leaving)


# --- Messages of a server half: messages.ts ----------------------------------------------------------------------------

_MAX_NOT_ACCEPTED = 256
# The link keeps four objects that it was given last and no message has spoken of yet; these are among them.
_MAX_LEASES = 2
_MESSAGE_ERRORS = frozenset(
    "NODE_NOT_FOUND NODE_REVOKED NODE_OFFLINE QUEUE_FULL EXPIRED REFUSED_BY_NODE NO_HANDLER HANDLER_THREW "
    "HANDLER_TIMEOUT APP_CRASHED APP_INVALID OBJECT_LOST RUN_OVER STORE_FULL".split()
)


class _Posted(NamedTuple):
    """A message that was checked."""

    head: dict
    content: _OutgoingContent


class _Answer(NamedTuple):
    """As it came."""

    node: str
    body: bytearray
    object: tuple[str, int] | None
    error: MessageFailure | None


class _Entry:
    __slots__ = ("answer", "is_taken", "posted", "receiver")

    def __init__(self, posted, receiver):
        self.posted = posted
        """Until it is accepted."""
        self.receiver = receiver
        self.answer = None
        self.is_taken = False
        """The link was told already, or never had it."""


class _MessageBook:
    """The messages of a server half between the app and the link: numbered in the order in which they are posted, sent again until
    they are accepted, and their answers kept until they are taken. What is too large for a frame is stored at the link right before the
    message that speaks of it: the link keeps it only as long as some message does. All but `transmit` needs the lock."""

    def __init__(self, link):
        self._link = link
        self._entries = {}
        """Those that were not taken."""
        self._unaccepted = {}
        """Those among them that were not accepted, in order."""
        self._last = 0
        self._sent_to = 0
        self._in_flight = 0
        self._leases = []
        """Digests of what the link was given last on this connection."""

    def post(self, posted, receiver=None):
        """It goes as soon as it may. Gives its number."""
        self._last += 1
        self._entries[self._last] = self._unaccepted[self._last] = _Entry(posted, receiver)
        self._link.news.notify_all()
        return self._last

    def is_accepted(self, number):
        return number not in self._unaccepted

    def claim(self, numbers, receiver):
        """From now on the answers are for this receiver, also those that came already."""
        claimed = [self._entries.get(number) for number in numbers]
        if len(set(numbers)) != len(numbers) or any(each is None or each.receiver is not None for each in claimed):
            raise GridError("REQUEST_INVALID", "one of these messages was never sent, or its answer is received already")
        for number, entry in zip(numbers, claimed):
            entry.receiver = receiver
            if number not in self._unaccepted:
                receiver.on_accepted()
            if entry.answer is not None:
                receiver.on_answer(number, entry.answer)

    def taken(self, number):
        """The answer need not come again."""
        entry = self._entries.pop(number, None)
        if entry is not None and not entry.is_taken:
            self._link.send("taken", {"number": number})

    def take(self, frame):
        """True for a frame that it took."""
        name, value, body = frame
        if name == "accepted":
            self._accept(_number_of(frame))
        elif name == "answer":
            self._take_answer(_number_of(frame), _parse_answer(value, body))
        elif name == "progress":
            number = _number_of(frame)
            entry = self._entries.get(number)
            if entry is not None and entry.receiver is not None:
                entry.receiver.on_progress(_parse_progress(number, value))
        else:
            return False
        return True

    def on_connected(self):
        self._sent_to = next(iter(self._unaccepted), self._last + 1) - 1
        self._in_flight = 0
        self._leases = []

    def next_unsent(self):
        """Number and entry of the next one that may go, or None."""
        while self._sent_to < self._last and self._in_flight < _MAX_NOT_ACCEPTED:
            number = self._sent_to + 1
            if number in self._unaccepted:
                return number, self._unaccepted[number]
            self._sent_to = number
        return None

    def needs_upload(self, entry):
        return entry.posted.content.is_object and entry.posted.content.digest not in self._leases

    def transmit(self, connected, number, entry, check):
        """Only one thread sends messages. When the connection is lost meanwhile, they are sent again on the next."""
        head, content = entry.posted
        if self.needs_upload(entry):
            try:
                connected.objects.write(content, check)
            except _ObjectError as error:
                with self._link.news:
                    self._refuse(number, entry, str(error))
                return
        with self._link.news:
            if self._link.current is not connected:
                return
            if content.is_object and content.digest not in self._leases:
                self._leases = [*self._leases, content.digest][-_MAX_LEASES:]
            self._sent_to = number
            self._in_flight += 1
        connected.frames.send("send", {"number": number, **head, **content.name()}, content.body())

    def _refuse(self, number, entry, message):
        """The link never hears of it."""
        if number not in self._unaccepted:
            return
        node = entry.posted.head["node"]
        entry.is_taken = True
        self._settle(number, entry)
        self._give(number, entry, _Answer(node, bytearray(), None, MessageFailure("APP_INVALID", message)))
        self._link.news.notify_all()

    def _settle(self, number, entry):
        del self._unaccepted[number]
        entry.posted = None
        if entry.receiver is not None:
            entry.receiver.on_accepted()

    def _accept(self, number):
        # It may have been sent on an earlier connection, and not yet again on this one.
        if number > self._last:
            raise _ProtocolError(f"message {number} was never sent")
        entry = self._unaccepted.get(number)
        if entry is None:
            return
        if number <= self._sent_to:
            self._in_flight -= 1
        self._settle(number, entry)

    def _take_answer(self, number, answer):
        self._accept(number)
        entry = self._entries.get(number)
        if entry is None or entry.is_taken:
            # Nothing but the word that it was taken was lost.
            self._link.send("taken", {"number": number})
        elif entry.answer is None:
            self._give(number, entry, answer)

    def _give(self, number, entry, answer):
        entry.answer = answer
        if entry.receiver is not None:
            entry.receiver.on_answer(number, answer)
        elif answer.object is None and not entry.is_taken:
            # It is all here. Answers that nobody asks for yet must not keep the others away.
            entry.is_taken = True
            self._link.send("taken", {"number": number})


def _number_of(frame):
    number = frame[1].get("number")
    if _is_whole(number) and number > 0:
        return number
    raise _ProtocolError(f'a frame "{frame[0]}" has no number')


def _parse_answer(value, body):
    node = str(value.get("node"))
    error = value.get("error")
    if error is not None:
        code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else ("", error)
        known = code if isinstance(code, str) and code in _MESSAGE_ERRORS else "APP_INVALID"
        return _Answer(node, body, None, MessageFailure(known, str(message)))
    if "object" not in value:
        return _Answer(node, body, None, None)
    return _Answer(node, body, _parse_object_name(value["object"]), None)


def _parse_object_name(value):
    digest, size = (value.get("digest"), value.get("sizeBytes")) if isinstance(value, dict) else ("", 0)
    is_digest = isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    if is_digest and _is_whole(size):
        return digest, size
    raise _ProtocolError("invalid name of an object")


def _parse_progress(number, value):
    fraction = value.get("fraction")
    is_number = isinstance(fraction, (int, float))
    return GridProgress(number, str(value.get("node")), float(fraction) if is_number else 0.0, str(value.get("note", "")))


# --- Replies: replies.ts -----------------------------------------------------------------------------------------------

_MAX_AHEAD = 64
_MAX_PROGRESS = 1000


class Replies:
    """Replies in the order they come; ends when every message has its answer. A loop that is left gives up the rest."""

    def __init__(self, grid, on_progress):
        self._grid = grid
        self._on_progress = on_progress
        self._arrived = collections.deque()
        self._decoded = collections.deque()
        self._told = collections.deque(maxlen=_MAX_PROGRESS)
        self._expected = 0
        self._sent = self._answered = self._failed = 0
        self._is_decoding = False
        self._is_left = False

    @property
    def progress(self) -> ReplyCounts:
        with self._grid._news:
            return ReplyCounts(self._sent, self._answered, self._failed)

    def __iter__(self) -> Iterator[GridReply]:
        try:
            while True:
                step = self._grid._wait(self._step, self)
                if isinstance(step, GridProgress):
                    self._on_progress(step)
                elif isinstance(step, GridReply):
                    yield step
                else:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Gives up what has not come yet."""
        with self._grid._news:
            self._is_left = True
            self._decoded.clear()
            while self._arrived:
                self._grid._messages.taken(self._arrived.popleft()[0])
            self._grid._news.notify_all()

    # What follows needs the lock.

    def _step(self):
        """What the loop does next: hears of progress, gets a reply, or ends; None while it waits."""
        if self._told:
            return self._told.popleft()
        if self._decoded:
            return self._decoded.popleft()
        return "end" if self._is_left or self._answered == self._expected else None

    def _has_work(self, is_needed):
        """Whether an answer may be decoded. A slow app holds a few ahead of it and no more."""
        has_room = is_needed or len(self._decoded) < _MAX_AHEAD
        return bool(self._arrived) and has_room and not self._is_decoding

    def _put(self, number, reply):
        if not self._is_left:
            self._decoded.append(reply)
        self._answered += 1
        self._failed += reply.error is not None
        self._grid._messages.taken(number)

    def on_accepted(self):
        self._sent += 1

    def on_answer(self, number, answer):
        if self._is_left:
            self._grid._messages.taken(number)
        else:
            self._arrived.append((number, answer))
            self._grid._answered[self] = None

    def on_progress(self, progress):
        if self._on_progress is not None and not self._is_left:
            self._told.append(progress)


# --- The grid: grid.ts -------------------------------------------------------------------------------------------------

_DEFAULT_TTL = 60 * 60.0
_MAX_TTL = 7 * 24 * 60 * 60.0
_MAX_NAME = 200
_MAX_NODES = 1_000_000
_MAX_LABELS = 100


class _NodeQuery:
    def __init__(self, head, deadline):
        self.head = head
        self.deadline = deadline
        self.found = []
        """Those that came so far: many come in several frames."""
        self.nodes = None
        self.error = None


class Grid:
    """The nodes, and messages to them. Once the run is being stopped, and when the server half has ended, what waits here raises
    GridError. May be used by several threads at once."""

    def __init__(self, link, messages):
        self._link = link
        self._news = link.news
        self._messages = messages
        self._queries = {}
        self._requests = 0
        self._ended = None
        self._answered = {}
        """Replies with answers that were not decoded, in order."""
        self._waiting_loops = 0

    def nodes(
        self, min_count: int = 1, labels: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> list[GridNode]:
        """Nodes of the tenant that are online now, once there are `min_count`. Every pair of `labels` must be on the node. GridError when
        `timeout` seconds pass before there are enough; waits for ever without one."""
        if not _is_whole(min_count) or not 0 <= min_count <= _MAX_NODES:
            raise GridError("REQUEST_INVALID", f"min_count of grid.nodes() must be 0 to {_MAX_NODES}")
        if timeout is not None and not (_is_number(timeout) and timeout >= 0):
            raise GridError("REQUEST_INVALID", "timeout of grid.nodes() must be a number of seconds")
        labels = dict(labels or {})
        if len(labels) > _MAX_LABELS or not all(isinstance(each, str) for pair in labels.items() for each in pair):
            raise GridError("REQUEST_INVALID", f"labels of grid.nodes() must be at most {_MAX_LABELS} pairs of texts")
        deadline = None if timeout is None or timeout == math.inf else time.monotonic() + timeout
        with self._news:
            self._require_open()
            self._requests += 1
            request = self._requests
            query = self._queries[request] = _NodeQuery({"request": request, "min": min_count, "labels": labels}, deadline)
            self._ask(query)
        try:
            self._wait(lambda: query.nodes if query.error is None else query.error)
            if query.error is not None:
                raise query.error
            return query.nodes
        finally:
            with self._news:
                del self._queries[request]

    def send(self, messages: Iterable[OutgoingMessage]) -> list[int]:
        """Returns the numbers of the messages when all are on the disk of the link or refused. Their answers are given by `receive`, also
        the refusals."""
        posted = self._check(messages, _DEFAULT_TTL)
        with self._news:
            self._require_open()
            numbers = [self._messages.post(each) for each in posted]
        waiting = collections.deque(numbers)

        def are_accepted():
            while waiting and self._messages.is_accepted(waiting[0]):
                waiting.popleft()
            return None if waiting else True

        self._wait(are_accepted)
        return numbers

    def receive(self, numbers: Sequence[int], on_progress: Callable[[GridProgress], None] | None = None) -> Replies:
        """The answers to these messages of `send`. `on_progress` is called in the loop over them."""
        numbers = list(numbers)
        replies = Replies(self, on_progress)
        with self._news:
            replies._expected = len(numbers)
            self._messages.claim(numbers, replies)
        return replies

    def send_and_receive(
        self,
        messages: Iterable[OutgoingMessage],
        timeout: float | None = None,
        on_progress: Callable[[GridProgress], None] | None = None,
    ) -> Replies:
        """Both, without waiting in between. A content that is the very same object in several messages travels once. `timeout` stands
        in for the `ttl` of messages that have none."""
        posted = self._check(messages, _DEFAULT_TTL if timeout is None else timeout)
        replies = Replies(self, on_progress)
        with self._news:
            self._require_open()
            replies._expected = len(posted)
            for each in posted:
                self._messages.post(each, replies)
        return replies

    def _check(self, messages, default_ttl):
        """All or none: nothing is numbered before everything is known to be fit."""
        with self._news:
            self._require_open()
        _check_ttl(default_ttl)
        prepared = {}
        return [_check_message(message, default_ttl, prepared) for message in list(messages)]

    def _wait(self, find, replies=None):
        """Waits until `find` gives something, and decodes answers meanwhile; those of `replies` first, for a loop that waits for them. The
        link gives only so many that are not taken, and what a loop waits for may come after those of another, which are taken then, too."""
        with self._news:
            self._waiting_loops += replies is not None
        try:
            while True:
                with self._news:
                    self._require_open()
                    found = find()
                    if found is not None:
                        return found
                    work = self._find_work(replies)
                    if work is None:
                        self._news.wait()
                        continue
                self._decode(*work)
        finally:
            with self._news:
                self._waiting_loops -= replies is not None

    def _find_work(self, first):
        for replies in [first, *self._answered] if first is not None else list(self._answered):
            if not replies._arrived:
                self._answered.pop(replies, None)
            elif replies._has_work(self._waiting_loops > 0):
                replies._is_decoding = True
                return replies, *replies._arrived.popleft()
        return None

    def _decode(self, replies, number, answer):
        try:
            reply = self._read_answer(number, answer)
            with self._news:
                replies._put(number, reply)
        finally:
            with self._news:
                replies._is_decoding = False
                self._news.notify_all()

    def _read_answer(self, number, answer):
        """An answer that cannot be read is an error like any other."""
        if answer.error is not None:
            return GridReply(number, answer.node, None, answer.error)
        try:
            body = answer.body
            if answer.object is not None:
                digest, size = answer.object
                body = self._link.with_objects(lambda objects: objects.read(digest, size, self._require_open), self._require_open)
            return GridReply(number, answer.node, decode_content(body), None)
        except _ObjectError as error:
            return GridReply(number, answer.node, None, MessageFailure(error.code, str(error)))
        except ContentError as error:
            return GridReply(number, answer.node, None, MessageFailure("APP_INVALID", str(error)))

    # What follows needs the lock.

    def _require_open(self):
        if self._ended is not None:
            raise GridError("RUN_REFUSED", self._ended)

    def _end(self, reason):
        self._ended = self._ended or reason
        self._news.notify_all()

    def _ask(self, query):
        query.found = []
        left = {} if query.deadline is None else {"timeoutMs": max(0, math.ceil((query.deadline - time.monotonic()) * 1000))}
        self._link.send("nodes", {**query.head, **left})

    def _on_connected(self):
        for query in self._queries.values():
            self._ask(query)

    def _take(self, frame):
        """True for a frame that it took."""
        name, value, _ = frame
        if name != "nodes":
            return False
        request = value.get("request")
        query = self._queries.get(request) if _is_whole(request) else None
        if query is None:
            return True
        if isinstance(value.get("nodes"), list):
            query.found += map(_parse_node, value["nodes"])
            if value.get("isLast", True) is True:
                query.nodes = query.found
        else:
            query.error = GridError("DEADLINE_EXCEEDED", _text_of(value.get("error")))
        return True


def _parse_node(value):
    if not isinstance(value, dict) or not isinstance(value.get("labels", {}), dict):
        raise _ProtocolError("invalid node")
    return GridNode(str(value.get("id")), str(value.get("name", "")), value.get("labels", {}))


def _text_of(error):
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else "there are not enough nodes"


def _check_message(message, default_ttl, prepared):
    """`prepared`: contents of the same call; the very same object in several messages is prepared once."""
    if not isinstance(message, OutgoingMessage):
        raise _unfit(f"expected an OutgoingMessage, found {type(message).__name__}")
    node = message.node
    if not isinstance(node, str) or not 1 <= len(node) <= 20 or not (node.isascii() and node.isdigit()):
        raise _unfit("invalid node id, expected node.id of a node that grid.nodes() gives")
    if not _is_name(message.type) or message.type == "":
        raise _unfit(f"invalid type, expected a text of 1 to {_MAX_NAME} characters")
    if not _is_name(message.group):
        raise _unfit(f"invalid group, expected a text of at most {_MAX_NAME} characters")
    content = prepared.get(id(message.content))
    if content is None:
        try:
            content = prepared[id(message.content)] = _OutgoingContent(message.content)
        except ContentError as error:
            raise GridError("REQUEST_INVALID", f"this content cannot be sent: {error}") from None
    ttl_ms = _check_ttl(default_ttl if message.ttl is None else message.ttl)
    return _Posted({"node": node, "type": message.type, "group": message.group, "ttlMs": ttl_ms}, content)


def _is_name(value):
    """Of at most so many characters as JavaScript counts them, none of which controls a terminal or is half of one."""
    return (
        isinstance(value, str)
        and not any(each < " " or "\x7f" <= each <= "\x9f" or "\ud800" <= each <= "\udfff" for each in value)
        and len(value.encode("utf-16-le")) <= 2 * _MAX_NAME
    )


def _check_ttl(ttl):
    if _is_number(ttl) and 0.001 <= ttl <= _MAX_TTL:
        return math.floor(ttl * 1000)
    raise _unfit("its time must be between a millisecond and 7 days, in seconds")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unfit(what):
    return GridError("REQUEST_INVALID", f"a message cannot be sent: {what}")


# --- The app on the disk of its runner: app.ts -------------------------------------------------------------------------


def _unpack(archive, folder):
    """The archive was checked by the program that sent it; what could lead out of the folder is refused here once more."""
    (length,) = struct.unpack_from("<I", archive)
    at = 4 + length
    view = memoryview(archive)
    for file in json.loads(bytes(view[4:at]).decode()):
        path, size = file["path"], file["sizeBytes"]
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in path or "\0" in path:
            raise _ProtocolError("the archive names a file outside of the app")
        content = view[at : at + size]
        at += size
        if len(content) != size or _hex(content) != file["digest"]:
            raise _ProtocolError("the archive is damaged")
        target = os.path.join(folder, *parts)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        with open(target, "xb") as opened:
            opened.write(content)
    if at != len(archive):
        raise _ProtocolError("the archive is damaged")


def _load(folder, entry, half):
    """Runs the entry. What it raises is told as an error of the app."""
    import importlib.util

    path = os.path.join(folder, *entry.split("/"))
    if not os.path.isfile(path):
        raise _AppError(f"{entry} is not in the app")
    # A script finds what lies beside it; what lies at the top of the app is found from everywhere.
    sys.path[:0] = list(dict.fromkeys([os.path.dirname(path), folder]))
    sys.dont_write_bytecode = True
    name = f"rollcall_{half}_half"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _AppError(_describe(error, folder, f"{entry} cannot be loaded: ")) from None
    if half == "node" and not _handlers:
        raise _AppError(f"{entry} has no handler: one is a function below @rollcall_app.train, .evaluate, .query or .handler")
    if half == "server" and not _server_halves:
        raise _AppError(f"{entry} has no server half: it is a function below @rollcall_app.server")


# --- The node half: node-half.ts ---------------------------------------------------------------------------------------

_NOTE_LENGTH = 200
_PROGRESS_EVERY = 0.1


class _HandlingError(Exception):
    """What the agent is told instead of an answer."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _NodeHalf:
    """One run on one connection: handles one message after the other in the main thread."""

    def __init__(self, opened, folder):
        welcome = opened.welcome
        self.send = opened.frames.send
        self.log = Log(self._write_log)
        self.run_id, self.run_config = welcome["run"], welcome["config"]
        self.node_id = welcome["node"]["id"]
        self.node_config = {name: _from_json(each) for name, each in welcome["node"]["config"].items()}
        self._folder = folder
        self._frames = opened.frames
        self._entry = welcome["app"]["entry"]
        self._news = threading.Condition()
        self._objects = _Objects(self.send, self._news)
        self._message = None
        self._number = None
        self._is_cancelled = threading.Event()
        self._last = bytes(opened.state) or b"".join(encode_content({}))
        self._state = decode_content(bytearray(self._last))

    def run(self, leave):
        try:
            _load(self._folder, self._entry, "node")
        except _AppError as error:
            self.send("failed", {"message": _clip(str(error))})
            leave(1)
        _start_thread(self._listen, leave)
        self.send("ready", {})
        while True:
            with self._news:
                while self._message is None:
                    self._news.wait()
                _, value, body = self._message
                self._message = None
            self._handle(value, body)

    def _listen(self):
        """Reads frames until there are no more, which is the end; in a thread of its own."""
        try:
            while True:
                frame = self._frames.read()
                if frame is None:
                    return 0
                self._take(frame)
        except OSError:
            return 0
        except _ProtocolError as error:
            self._frames.bye(str(error))
            raise

    def _take(self, frame):
        name, value, _ = frame
        if self._objects.take(frame):
            return
        with self._news:
            if name == "message":
                if self._number is not None:
                    raise _ProtocolError("a message came while another was handled")
                self._is_cancelled = threading.Event()
                self._number = _number_of(frame)
                self._message = frame
                self._news.notify_all()
            elif name == "cancel" and value.get("number") == self._number:
                self._is_cancelled.set()

    def _handle(self, value, body):
        number = value["number"]
        try:
            message = self._read_message(value, body)
            del body
            context = Context(self, number, self._state, self._is_cancelled)
            content, state = self._prepare(self._call(message, context))
        except OSError:
            raise
        except Exception as error:
            self._state = decode_content(bytearray(self._last))
            self._finish()
            is_known = isinstance(error, (_HandlingError, _ObjectError))
            code, text = (error.code, str(error)) if is_known else ("APP_INVALID", _describe(error, self._folder))
            self.send("error", {"number": number, "code": code, "message": _clip(text)})
            return
        about = {"number": number, **content.name()}
        if state is not None:
            self._last = state
            view = memoryview(state)
            for at in range(0, len(state), _CHUNK_BYTES):
                self.send("state", {}, [view[at : at + _CHUNK_BYTES]])
            about["stateBytes"] = len(state)
        self._finish()
        self.send("reply", about, content.body())

    def _finish(self):
        """The next message may come as soon as the answer is on its way."""
        with self._news:
            self._number = None

    def _read_message(self, value, body):
        if "object" in value:
            body = self._objects.read(*_parse_object_name(value["object"]))
        try:
            content = decode_content(body)
        except ContentError as error:
            raise _HandlingError("APP_INVALID", str(error)) from None
        return Message(
            value["number"],
            value.get("type", ""),
            value.get("group", ""),
            content,
            value.get("attempt", 1),
            value.get("createdAt", 0),
        )

    def _call(self, message, context):
        function = _handlers.get(message.type)
        if function is None:
            raise _HandlingError("NO_HANDLER", f'the node half has no handler of the type "{message.type}"')
        try:
            return function(message, context)
        except Exception as error:
            raise _HandlingError("HANDLER_THREW", _describe(error, self._folder)) from None

    def _prepare(self, result):
        """What the reply holds, and the bytes of the state if they are others than before."""
        try:
            content = _OutgoingContent({} if result is None else result)
        except ContentError as error:
            raise _HandlingError("APP_INVALID", f"this content cannot be sent: {error}") from None
        try:
            state = b"".join(encode_content(self._state))
        except ContentError as error:
            raise _HandlingError("APP_INVALID", f"what is left in context.state: {error}") from None
        if len(state) > _MAX_STATE_BYTES:
            raise _HandlingError("APP_INVALID", f"context.state holds more than {_MAX_STATE_BYTES} bytes")
        if content.is_object:
            self._objects.write(content)
        return content, state if state != self._last else None

    def _write_log(self, level, text):
        self.send("log", {"at": int(time.time() * 1000), "level": level, "text": text})


# --- The server half: server-half.ts -----------------------------------------------------------------------------------

_MAX_RESULT_BYTES = 64 * 1024


class _Abandoned(Exception):
    """The server half has ended: what is on its way to a node is of no use."""


class _ServerHalf:
    """Its function is called once, with a grid that outlives the link, and how it ended is told until the link has it on its disk.
    What the app leaves uncaught in a thread is how it failed, too."""

    def __init__(self, opened, folder, open_again):
        welcome = opened.welcome
        self._folder = folder
        self._entry = welcome["app"]["entry"]
        self._news = threading.Condition()
        self._link = _Link(opened.frames, open_again, self._news)
        self._log = _LogBook(self._news)
        self._messages = _MessageBook(self._link)
        self._grid = Grid(self._link, self._messages)
        self._is_stopped = threading.Event()
        self._context = ServerContext(welcome["run"], welcome["config"], Log(self._log.write), self._is_stopped)
        self._is_loaded = False
        self._outcome = None
        self._is_told = False
        """On the connection there is."""

    def run(self, leave):
        """Ends with the threads that speak with the link, whatever the app still does by then."""
        threading.excepthook = self._fail_in_thread
        _start_thread(self._listen, leave)
        _start_thread(self._send_on, leave)
        try:
            _load(self._folder, self._entry, "server")
            with self._news:
                self._is_loaded = True
                self._link.send("ready", {})
            [main] = _server_halves
            self._settle("finished", _check_result(main(self._grid, self._context)))
        except SystemExit:
            raise
        except BaseException as error:
            self._fail(error)
        threading.Event().wait()

    def _fail(self, error):
        self._settle("failed", {"message": _describe(error, self._folder)})

    def _fail_in_thread(self, raised):
        self._fail(raised.exc_value if raised.exc_value is not None else raised.exc_type())

    def _settle(self, name, value):
        with self._news:
            if self._outcome is None:
                self._outcome = (name, value)
                self._grid._end("the server half has ended")

    def _listen(self):
        self._link.run(self._take, self._on_connected)
        return 0

    def _take(self, frame):
        """Needs the lock. True when the link has recorded how it ended."""
        name, value, _ = frame
        if self._messages.take(frame) or self._grid._take(frame):
            return False
        if name == "logged" and _is_whole(value.get("sequence")):
            self._log.on_logged(value["sequence"])
        elif name == "stop":
            self._is_stopped.set()
            self._grid._end("the run is being stopped")
        return name == "over"

    def _on_connected(self):
        """Needs the lock. All that the link may not have is said again."""
        if self._is_loaded:
            self._link.send("ready", {})
        self._log.on_connected()
        self._grid._on_connected()
        self._messages.on_connected()
        self._is_told = False

    def _send_on(self):
        """Writes what there is to say, in a thread of its own: that which reads must never wait for room."""
        while True:
            with self._news:
                connected, work = self._link.current, self._find_work()
                if work is None:
                    self._news.wait()
                    continue
            try:
                work(connected)
            except (_Abandoned, _Unreachable):
                pass
            except OSError:
                connected.frames.close()

    def _find_work(self):
        """Needs the lock. The last line of the log goes before the outcome, and so do messages; but nothing is uploaded after it."""
        if self._link.current is None:
            return None
        if self._link.outbox:
            return _sending(*self._link.outbox.popleft())
        line = self._log.next_line()
        if line is not None:
            return _sending("log", line)
        unsent = self._messages.next_unsent()
        if unsent is not None and not (self._outcome is not None and self._messages.needs_upload(unsent[1])):
            return lambda connected: self._messages.transmit(connected, *unsent, self._require_no_outcome)
        if self._outcome is not None and not self._is_told:
            self._is_told = True
            return _sending(*self._outcome)
        return None

    def _require_no_outcome(self):
        if self._outcome is not None:
            raise _Abandoned


def _sending(name, value):
    return lambda connected: connected.frames.send(name, value)


def _check_result(result):
    if result is None:
        return {}
    text = json.dumps(result, default=_plain_value)
    # As in JavaScript: JSON has no such numbers.
    result = json.loads(text, parse_constant=lambda name: None)
    size = len(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > _MAX_RESULT_BYTES:
        raise _unfit_result(f"it has {size} bytes as JSON, and at most {_MAX_RESULT_BYTES} are kept")
    return {"result": result}


def _plain_value(value):
    """Of numbers and arrays of numpy, and of NumberArray."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise _unfit_result(f"JSON holds no {type(value).__name__}")


def _unfit_result(what):
    return GridError("REQUEST_INVALID", f"the result of the server half cannot be kept: {what}")


# --- The process: main.ts, watch.ts ------------------------------------------------------------------------------------

_TOKEN_BYTES = 1024


def _read_token():
    """Its first line, byte by byte: the rest is for the thread that waits for its end."""
    token = b""
    while not token.endswith(b"\n") and len(token) <= _TOKEN_BYTES:
        piece = os.read(0, 1)
        if not piece:
            return None
        token += piece
    return token.decode("latin-1").strip()


def _close_inherited_files():
    """The program that started this process may have files open that children inherit, such as those of a store."""
    try:
        numbers = [int(each) for each in os.listdir("/proc/self/fd")]
    except OSError:
        return
    for number in numbers:
        try:
            if number > 2:
                os.close(number)
        except OSError:
            # The listing itself was one.
            pass


def _limit_memory():
    """What is above raises MemoryError, so that the app fails and not the process."""
    limit = os.environ.get("ROLLCALL_APP_MEMORY_BYTES", "")
    if not limit.isdigit():
        return
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    except (ImportError, ValueError, OSError):
        # The program that started this process looks at the memory as well.
        pass


def _start_thread(work, leave):
    """Of the runner: it ends the process with what the work gives or raises."""

    def run():
        try:
            leave(work())
        except (_ProtocolError, _Unreachable) as error:
            print(f"error: {error}", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        leave(1)

    threading.Thread(target=run, daemon=True).start()


def _wait_for_end():
    while os.read(0, 4096):
        pass
    return 0


def _main(arguments):
    if len(arguments) != 1:
        print("error: usage: rollcall_app.py SOCKET, with the token on standard input", file=sys.stderr)
        return 2
    _close_inherited_files()
    token = _read_token()
    if token is None:
        return 0
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.stdin = open(os.devnull)
    # An app imports this very module, not a second one.
    sys.modules["rollcall_app"] = sys.modules[__name__]
    _limit_memory()
    folder = os.path.realpath(tempfile.mkdtemp(prefix="rollcall-app-"))

    def leave(code):
        """At once, whatever the app is doing."""
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(code)

    _start_thread(_wait_for_end, leave)
    try:
        opened = _open_connection(arguments[0], token)
        _unpack(opened.archive, folder)
        if opened.welcome["half"] == "node":
            half = _NodeHalf(opened, folder)
        else:
            half = _ServerHalf(opened, folder, lambda: _open_connection(arguments[0], token))
        del opened
        half.run(leave)
    except (_ProtocolError, _Unreachable, ContentError, OSError, KeyError, TypeError, ValueError, struct.error) as error:
        print(f"error: {error}", file=sys.stderr)
        leave(1)
    except SystemExit as error:
        # The app has asked for it.
        leave(error.code if isinstance(error.code, int) else 0 if error.code is None else 1)
    except BaseException:
        traceback.print_exc()
        leave(1)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
