"""What authors of Python node halves import, and the runner that such a half is run by: one file, no dependencies.

    # node.py
    import rollcall_app

    @rollcall_app.query
    def query(message, context):
        return {"answer": f"{message.content['greeting']} from {context.node_config['name']}"}

A handler is given a message and a context, and returns a dict, or nothing. Contents are dicts of numbers, texts, truth
values, bytes, arrays of numbers and dicts. Arrays come as `NumberArray`, which looks into the very memory that was
received (`.numpy()` copies nothing either); what is returned may also hold `array.array`, numpy arrays, or whatever
else has a buffer of numbers. Whole numbers come as int, however they were sent.

As a program (`python3 rollcall_app.py SOCKET`, with a token on standard input) it speaks docs/app-host-protocol.md: it holds the app
of one run, and its end is the end of whatever the app does. The socket and standard input are read by threads of
their own, handlers run in the main thread. Contents are those of src/app/content.ts, byte for byte.
"""

import array
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

__all__ = ["NumberArray", "evaluate", "handler", "query", "train"]

# --- For authors -------------------------------------------------------------------------------------------------------

_handlers = {}


def handler(type):
    """Makes a function the handler of messages of a type: `@handler("scores")`."""
    if not isinstance(type, str) or type == "":
        raise TypeError('a handler is for a type: @rollcall_app.handler("train")')

    def register(function):
        if not callable(function):
            raise TypeError(f"the handler of {type} is no function")
        if type in _handlers:
            raise ValueError(f"there are two handlers of the type {type}")
        _handlers[type] = function
        return function

    return register


def train(function):
    return handler("train")(function)


def evaluate(function):
    return handler("evaluate")(function)


def query(function):
    return handler("query")(function)


class Message:
    """What a handler is given first."""

    def __init__(self, message, type, group, content, attempt, created_at):
        self.message = message
        """Counted in the run."""
        self.type = type
        self.group = group
        self.content = content
        """A dict."""
        self.attempt = attempt
        """Above 1 when a handler may have been entered with it before, and the agent died."""
        self.created_at = created_at
        """Milliseconds since 1970."""


class Context:
    """What a handler is given besides its message."""

    def __init__(self, session, number, state, is_cancelled):
        self.node_id = session.node_id
        self.run_id = session.run_id
        self.node_config = session.node_config
        """What the agent was started with: `--node-config`."""
        self.run_config = session.run_config
        self.log = session.log
        self._state = state
        self._session = session
        self._number = number
        self._is_cancelled = is_cancelled
        self._told_at = -math.inf

    @property
    def state(self):
        """A dict that is kept between the messages of a run, on this node alone. What a handler leaves in it is on the disk
        together with its reply; what one that raised left is undone."""
        return self._state

    def cancelled(self):
        """Whether nobody wants the answer any more."""
        return self._is_cancelled.is_set()

    def progress(self, fraction, note=""):
        """For progress bars: 0 to 1. More than ten a second are passed over."""
        now = time.monotonic()
        if now - self._told_at < _PROGRESS_EVERY:
            return
        self._told_at = now
        fraction = float(fraction)
        within = min(1.0, max(0.0, fraction)) if fraction == fraction else 0.0
        note = _replace_halves(str(note))[:_NOTE_LENGTH]
        self._session.send("progress", {"number": self._number, "fraction": within, "note": note})


class Log:
    """Lines that whoever started the run reads. What is printed goes there too, line by line."""

    def __init__(self, write):
        self._write = write

    def debug(self, text):
        self._write("debug", text)

    def info(self, text):
        self._write("info", text)

    def warn(self, text):
        self._write("warn", text)

    warning = warn

    def error(self, text):
        self._write("error", text)


# --- Contents ----------------------------------------------------------------------------------------------------------

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
        """`data`: anything with a buffer of numbers, such as array.array or a numpy array; its own shape unless told."""
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
        raise ContentError(f"an array in it is of no type that travels: {view.format}")
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
            raise _malformed("the shape of an array in it is none")
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


# --- Frames ------------------------------------------------------------------------------------------------------------

_FRAME_HEAD_BYTES = 1024 * 1024
_FRAME_BODY_BYTES = 1024 * 1024 + 64 * 1024


class _ProtocolError(Exception):
    """The other side says what it may not, or nothing any more."""


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


# --- Objects -----------------------------------------------------------------------------------------------------------

_INLINE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_CHUNKS = 2048
_CHUNKS_IN_FLIGHT = 4


class _ObjectError(Exception):
    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _Objects:
    """Contents above 64 KiB, for the main thread; the thread that reads gives it the frames about objects."""

    NAMES = frozenset(["manifest", "chunk", "lost", "wants", "stored", "refused"])

    def __init__(self, send):
        self._send = send
        self._frames = []
        self._news = threading.Condition()

    def put(self, frame):
        with self._news:
            self._frames.append(frame)
            self._news.notify()

    def _next(self, digest):
        """The next one about this object; what is left of others is passed over."""
        while True:
            with self._news:
                while not self._frames:
                    self._news.wait()
                frame = self._frames.pop(0)
            if frame[1].get("digest") == digest:
                return frame

    def read(self, wanted):
        digest, size = wanted.get("digest"), wanted.get("sizeBytes")
        self._send("get", {"digest": digest})
        name, _, manifest = self._next(digest)
        if name != "manifest":
            raise _ObjectError("OBJECT_LOST", "the content cannot be had any more")
        chunks = [bytes(manifest[at : at + 32]) for at in range(8, len(manifest), 32)]
        if _hex(manifest) != digest or manifest[:8] != _size_field(size) or len(chunks) != -(-size // _CHUNK_BYTES):
            raise _ObjectError("OBJECT_LOST", "the manifest of the content is that of another")
        try:
            data = bytearray(size)
        except MemoryError:
            raise _ObjectError("APP_INVALID", f"a content of {size} bytes does not fit in memory") from None
        asked = 0
        for done in range(len(chunks)):
            while asked < len(chunks) and asked - done < _CHUNKS_IN_FLIGHT:
                self._send("get", {"digest": digest, "chunk": asked})
                asked += 1
            name, value, body = self._next(digest)
            if name != "chunk":
                raise _ObjectError("OBJECT_LOST", "the content cannot be had any more")
            start = value.get("chunk", -1) * _CHUNK_BYTES
            right = 0 <= start < size and len(body) == min(_CHUNK_BYTES, size - start)
            if not right or hashlib.sha256(body).digest() != chunks[start // _CHUNK_BYTES]:
                raise _ObjectError("OBJECT_LOST", "a chunk of the content is another")
            data[start : start + len(body)] = body
        return data

    def write(self, parts, size):
        """Gives what a frame says of it."""
        if size > _CHUNKS * _CHUNK_BYTES:
            raise _ObjectError("APP_INVALID", f"this content cannot be sent: it has more than {_CHUNKS} MiB")
        digests = [hashlib.sha256() for _ in range(-(-size // _CHUNK_BYTES))]
        for chunk, hashed in enumerate(digests):
            for piece in _pieces(parts, chunk):
                hashed.update(piece)
        manifest = _size_field(size) + b"".join(each.digest() for each in digests)
        digest = _hex(manifest)
        self._send("put", {"digest": digest}, [manifest])
        name, value, _ = self._next(digest)
        if name == "wants":
            for chunk in value["chunks"]:
                self._send("chunk", {"digest": digest, "chunk": chunk}, _pieces(parts, chunk))
            name, value, _ = self._next(digest)
        if name != "stored":
            raise _ObjectError("APP_INVALID", f"the content was refused: {value.get('message')}")
        return {"digest": digest, "sizeBytes": size}


def _pieces(parts, chunk):
    """Views of one chunk of all parts one after the other."""
    skip, wanted = chunk * _CHUNK_BYTES, _CHUNK_BYTES
    pieces = []
    for part in parts:
        piece = part[skip : skip + wanted]
        skip = max(0, skip - len(part))
        wanted -= len(piece)
        if len(piece):
            pieces.append(piece)
    return pieces


def _size_field(size):
    return struct.pack(">Q", size)


def _hex(data):
    return hashlib.sha256(data).hexdigest()


# --- The runner --------------------------------------------------------------------------------------------------------

_PROTOCOL = 1
_MOST_ARCHIVE_BYTES = 66 * 1024 * 1024
_MOST_STATE_BYTES = 16 * 1024 * 1024
_ERROR_BYTES = 4096
_LINE_LENGTH = 4096
_NOTE_LENGTH = 200
_PROGRESS_EVERY = 0.1
_TOKEN_BYTES = 1024


class _HandlingError(Exception):
    """What the agent is told instead of an answer."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class _AppError(Exception):
    """The app does not load; the message is for its author."""


class _Session:
    """One run on one connection: from its welcome on."""

    def __init__(self, frames):
        self.send = frames.send
        self.log = Log(self._write_log)
        self.folder = None
        self.run_id = self.node_id = ""
        self.node_config = self.run_config = {}
        self.objects = _Objects(frames.send)
        self._frames = frames
        self._message = None
        self._news = threading.Condition()
        self._number = None
        self._is_cancelled = threading.Event()
        self._last = b"".join(encode_content({}))
        self._state = {}

    def begin(self, token):
        """Gives the entry, once the app is in its folder."""
        self.send("run", {"protocol": _PROTOCOL, "token": token})
        welcome = self._expect("welcome")[1]
        if welcome.get("protocol") != _PROTOCOL or welcome.get("half") != "node":
            raise _ProtocolError("only node halves are run by Python")
        self.run_id, self.run_config = welcome["run"], welcome["config"]
        self.node_id = welcome["node"]["id"]
        self.node_config = {name: _from_json(each) for name, each in welcome["node"]["config"].items()}
        archive = self._gather("archive", welcome["archiveBytes"], _MOST_ARCHIVE_BYTES)
        state = self._gather("state", welcome.get("stateBytes", 0), _MOST_STATE_BYTES)
        if state:
            self._last = bytes(state)
            self._state = decode_content(state)
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="rollcall-app-"))
        _unpack(archive, self.folder)
        return welcome["app"]["entry"]

    def _expect(self, name):
        frame = self._frames.read()
        if frame is None:
            raise _ProtocolError("the connection was closed")
        if frame[0] == "bye":
            raise _ProtocolError(f"refused: {frame[1].get('message')}")
        if frame[0] != name:
            raise _ProtocolError(f'"{frame[0]}" came instead of "{name}"')
        return frame

    def _gather(self, name, size, most):
        if not isinstance(size, int) or not 0 <= size <= most:
            raise _ProtocolError("a size is none")
        data = bytearray()
        while len(data) < size:
            body = self._expect(name)[2]
            if not body or len(data) + len(body) > size:
                raise _ProtocolError(f'"{name}" has another length')
            data += body
        return data

    def listen(self):
        """Reads frames until there are no more; in a thread of its own."""
        while True:
            frame = self._frames.read()
            if frame is None:
                return
            name, value, _ = frame
            if name in _Objects.NAMES:
                self.objects.put(frame)
            elif name == "message":
                with self._news:
                    if self._number is not None:
                        raise _ProtocolError("a message came while another was handled")
                    self._is_cancelled = threading.Event()
                    self._number = value["number"]
                    self._message = frame
                    self._news.notify()
            elif name == "cancel":
                with self._news:
                    if value.get("number") == self._number:
                        self._is_cancelled.set()

    def serve(self):
        """Handles one message after the other, for ever."""
        self.send("ready", {})
        while True:
            with self._news:
                while self._message is None:
                    self._news.wait()
                _, value, body = self._message
                self._message = None
            self._handle(value, body)

    def _handle(self, value, body):
        number = value["number"]
        try:
            message = self._read_message(value, body)
            del body
            context = Context(self, number, self._state, self._is_cancelled)
            answer = self._prepare(self._call(message, context))
        except OSError:
            raise
        except Exception as error:
            self._state = decode_content(bytearray(self._last))
            self._finish()
            known = isinstance(error, (_HandlingError, _ObjectError))
            code, text = (error.code, str(error)) if known else ("APP_INVALID", _describe(error, self.folder))
            self.send("error", {"number": number, "code": code, "message": _clip(text)})
            return
        about, parts, state = answer
        if state is not None:
            self._last = state
            view = memoryview(state)
            for at in range(0, len(state), _CHUNK_BYTES):
                self.send("state", {}, [view[at : at + _CHUNK_BYTES]])
            about["stateBytes"] = len(state)
        self._finish()
        self.send("reply", {"number": number, **about}, parts)

    def _finish(self):
        """The next message may come as soon as the answer is on its way."""
        with self._news:
            self._number = None

    def _read_message(self, value, body):
        if "object" in value:
            body = self.objects.read(value["object"])
        try:
            content = decode_content(body)
        except ContentError as error:
            raise _HandlingError("APP_INVALID", str(error)) from None
        return Message(
            value["number"], value.get("type", ""), value.get("group", ""), content, value.get("attempt", 1), value.get("createdAt", 0)
        )

    def _call(self, message, context):
        function = _handlers.get(message.type)
        if function is None:
            raise _HandlingError("NO_HANDLER", f'the node half has no handler of the type "{message.type}"')
        try:
            return function(message, context)
        except Exception as error:
            raise _HandlingError("HANDLER_THREW", _describe(error, self.folder)) from None

    def _prepare(self, result):
        """What the reply says and holds, and the bytes of the state if they are others than before."""
        try:
            parts = encode_content({} if result is None else result)
        except ContentError as error:
            raise _HandlingError("APP_INVALID", f"this content cannot be sent: {error}") from None
        try:
            state = b"".join(encode_content(self._state))
        except ContentError as error:
            raise _HandlingError("APP_INVALID", f"what is left in context.state: {error}") from None
        if len(state) > _MOST_STATE_BYTES:
            raise _HandlingError("APP_INVALID", f"context.state holds more than {_MOST_STATE_BYTES} bytes")
        size = sum(len(part) for part in parts)
        changed = state if state != self._last else None
        if size <= _INLINE_BYTES:
            return {}, parts, changed
        return {"object": self.objects.write(parts, size)}, [], changed

    def _write_log(self, level, text):
        text = _replace_halves(str(text))
        if len(text) > _LINE_LENGTH:
            text = text[: _LINE_LENGTH - 1] + "…"
        self.send("log", {"at": int(time.time() * 1000), "level": level, "text": text})


def _from_json(value):
    """Integers that a number of JavaScript cannot hold come as text."""
    return int(value["integer"]) if isinstance(value, dict) else value


def _replace_halves(text):
    return text.encode(errors="replace").decode()


def _clip(text):
    return text.encode(errors="replace")[:_ERROR_BYTES].decode(errors="ignore")


def _describe(error, folder):
    """The error, and where in the app it was raised. Never raises, whatever the error is."""
    try:
        if isinstance(error, SyntaxError):
            text, filename, line = f"{type(error).__name__}: {error.msg}", error.filename or "", error.lineno
            place = f" ({os.path.relpath(filename, folder)}:{line})" if filename.startswith(folder + os.sep) else ""
            return _clip(text + place)
        text = str(error)
        text = (f"{type(error).__name__}: {text}" if text else type(error).__name__).replace(folder + os.sep, "")
        lines = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.startswith(folder + os.sep)]
        place = f" ({os.path.relpath(lines[-1].filename, folder)}:{lines[-1].lineno})" if lines else ""
        return _clip(text)[: _ERROR_BYTES - len(place)] + place
    except Exception:
        return "an error that cannot be shown"


def _unpack(archive, folder):
    """The agent has checked it; what could lead out of the folder is refused here once more."""
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


def _load(folder, entry):
    import importlib.util

    path = os.path.join(folder, *entry.split("/"))
    if not os.path.isfile(path):
        raise _AppError(f"{entry} is not in the app")
    # A script finds what lies beside it; what lies at the top of the app is found from everywhere.
    sys.path[:0] = list(dict.fromkeys([os.path.dirname(path), folder]))
    sys.dont_write_bytecode = True
    name = "rollcall_node_half"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _AppError(f"{entry} cannot be loaded: {_describe(error, folder)}") from None
    if not _handlers:
        raise _AppError(f"{entry} has no handler: one is a function below @rollcall_app.train, .evaluate, .query or .handler")


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
    """Whoever started this process may have files open that children inherit, such as those of a store."""
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
    """What is above raises MemoryError, so that the handler fails and not the process."""
    limit = os.environ.get("ROLLCALL_APP_MEMORY_BYTES", "")
    if not limit.isdigit():
        return
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    except (ImportError, ValueError, OSError):
        # The agent looks at the memory as well.
        pass


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
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.connect(arguments[0])
    except OSError as error:
        print(f"error: nobody listens on the socket: {error.strerror}", file=sys.stderr)
        return 1
    session = _Session(_Frames(connected))

    def leave(code):
        """At once, whatever the app is doing."""
        if session.folder is not None:
            shutil.rmtree(session.folder, ignore_errors=True)
        os._exit(code)

    def wait_for_end():
        while os.read(0, 4096):
            pass
        leave(0)

    def listen():
        try:
            session.listen()
            leave(0)
        except OSError:
            leave(0)
        except BaseException as error:
            print(f"error: {error}", file=sys.stderr)
            if isinstance(error, _ProtocolError):
                session.send("bye", {"message": str(error)})
            leave(1)

    threading.Thread(target=wait_for_end, daemon=True).start()
    try:
        entry = session.begin(token)
        _load(session.folder, entry)
        threading.Thread(target=listen, daemon=True).start()
        session.serve()
    except _AppError as error:
        session.send("failed", {"message": _clip(str(error))})
        leave(1)
    except (_ProtocolError, ContentError, OSError, KeyError, TypeError, ValueError) as error:
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
