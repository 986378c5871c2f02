"""Checks an exported audit log with the standard library alone, as a second opinion on `rollcall audit verify`.

    python3 rollcall_audit.py LOG.jsonl [--checkpoint KEPT.json] [--public-key KEY.pem]

docs/audit-log.md says what is checked and why. Signatures are checked with `openssl`; where there is no such program, the
hash chain is checked and the report says that nobody's signature was. The exit code is 0 when everything fits, 1 when
something does not, 2 when it could not be looked at.
"""

import argparse
import base64
import decimal
import hashlib
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile

FIRST_PREVIOUS = "0" * 64
ENTRY_FIELDS = "seq at type subject by address requestId outcome detail previous hash".split()
CHECKPOINT_FIELDS = "version trustDomain tenant seq hash at keyFingerprint signature".split()
HEADER_FIELDS = "format version tenant trustDomain publicKeyPem from to".split()
PARTY_KINDS = ("user", "service", "node", "link", "setup", "anonymous")

# --- JSON in its one spelling: RFC 8785 for everything but the order of members ----------------------------------------


def spell_number(value):
    """As ECMAScript writes a number (ECMA-262, Number::toString)."""
    if isinstance(value, int) and abs(value) < 2**53:
        return str(value)
    sign, digits, exponent = decimal.Decimal(repr(float(value))).as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if stripped == "":
        return "0"
    point = len(text) + exponent
    text, minus = stripped, "-" if sign else ""
    if len(text) <= point <= 21:
        return minus + text + "0" * (point - len(text))
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    rest = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def spell(value):
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return spell_number(value)
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(spell, value))}]"
    return "{" + ",".join(f"{spell(key)}:{spell(each)}" for key, each in value.items()) + "}"


def code_units(text):
    """Keys are sorted by their UTF-16 code units."""
    return text.encode("utf-16-be", "surrogatepass")


def member_order(key):
    """In a line, keys that are whole numbers come first, as in every object of JavaScript."""
    is_index = re.fullmatch(r"0|[1-9]\d{0,9}", key) and int(key) < 2**32 - 1
    return (0, int(key), b"") if is_index else (1, 0, code_units(key))


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**53


def is_hash(value):
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def are_texts(*values):
    return all(isinstance(value, str) for value in values)


def is_header(value):
    texts = are_texts(*map(value.get, ("tenant", "trustDomain", "publicKeyPem")))
    first, last = value.get("from"), value.get("to")
    return texts and value.get("version") == 1 and is_count(first, 1) and is_count(last, first - 1)


def is_party(value):
    if not isinstance(value, dict):
        return isinstance(value, str)
    return value.get("kind") in PARTY_KINDS and are_texts(value.get("id"), value.get("name"))


def is_entry(value):
    detail = value.get("detail")
    return (
        is_count(value.get("seq"), 1)
        and is_number(value.get("at"))
        and are_texts(value.get("type"), value.get("subject"))
        and is_party(value.get("by"))
        and are_texts(*(value[name] for name in ("address", "requestId") if name in value))
        and value.get("outcome", "done") in ("done", "refused", "failed")
        and isinstance(detail, dict)
        and all(is_number(each) or isinstance(each, (str, bool)) for each in detail.values())
        and is_hash(value.get("previous"))
        and is_hash(value.get("hash"))
    )


def is_checkpoint(value):
    texts = [value.get(name) for name in ("trustDomain", "tenant", "keyFingerprint", "signature")]
    return (
        value.get("version") == 1
        and are_texts(*texts)
        and not re.search("[\ud800-\udfff]", "".join(texts))
        and is_count(value.get("seq"), 1)
        and is_count(value.get("at"), 0)
        and is_hash(value.get("hash"))
        and re.fullmatch(r"[A-Za-z0-9+/]{4,96}={0,2}", value["signature"]) is not None
    )


def refuse_constant(_):
    raise ValueError("JSON has no such number")


def parse_line(line):
    """The object in a line; None for anything that is not spelled as a link spells it."""
    try:
        value = json.loads(line, parse_constant=refuse_constant)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    if value.get("format") == "rollcall audit export":
        fields, is_one = HEADER_FIELDS, is_header
    elif "signature" in value:
        fields, is_one = CHECKPOINT_FIELDS, is_checkpoint
    else:
        fields, is_one = ENTRY_FIELDS, is_entry
    if not is_one(value):
        return None
    ordered = {name: value[name] for name in fields if name in value}
    if "detail" in ordered:
        ordered["detail"] = {key: value["detail"][key] for key in sorted(value["detail"], key=member_order)}
    if isinstance(ordered.get("by"), dict):
        ordered["by"] = {name: value["by"][name] for name in ("kind", "id", "name")}
    return ordered if spell(ordered) == line else None


# --- Hashes, fingerprints, signatures ----------------------------------------------------------------------------------


def hash_entry(entry):
    pairs = [[key, entry["detail"][key]] for key in sorted(entry["detail"], key=code_units)]
    origin = [entry.get(name) for name in ("address", "requestId", "outcome")]
    by, version = entry["by"], 3
    if isinstance(by, dict):
        by = [by["kind"], by["id"], by["name"]]
    else:
        version = 1 if origin == [None, None, None] else 2
    told = [entry["seq"], entry["at"], entry["type"], entry["subject"], by]
    told += ([] if version == 1 else origin) + [pairs, entry["previous"]]
    return hashlib.sha256(spell([f"rollcall audit v{version}", *told]).encode()).hexdigest()


def with_lengths(fields):
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def fingerprint_of(pem):
    """Of a P-256 key: SHA-256 over the SSH public key (RFC 5656), as ssh-keygen -l shows it."""
    der = base64.b64decode("".join(pem.strip().splitlines()[1:-1]))
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
    if len(der) != 91 or not der.startswith(prefix):
        raise ValueError("expected a public key on P-256, uncompressed")
    blob = with_lengths([b"ecdsa-sha2-nistp256", b"nistp256", der[26:]])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def statement_of(checkpoint):
    """The bytes that a checkpoint is signed over."""
    return with_lengths(
        [
            b"rollcall checkpoint v1",
            checkpoint["trustDomain"].encode(),
            checkpoint["tenant"].encode(),
            struct.pack(">Q", checkpoint["seq"]),
            bytes.fromhex(checkpoint["hash"]),
            struct.pack(">Q", checkpoint["at"]),
            checkpoint["keyFingerprint"].encode(),
        ]
    )


def is_signed(checkpoint, pem):
    """Whether the signature holds; None without openssl."""
    if shutil.which("openssl") is None:
        return None
    with tempfile.NamedTemporaryFile("w") as key, tempfile.NamedTemporaryFile() as signature:
        key.write(pem)
        key.flush()
        signature.write(base64.b64decode(checkpoint["signature"]))
        signature.flush()
        command = ["openssl", "dgst", "-sha256", "-verify", key.name, "-signature", signature.name]
        done = subprocess.run(command, input=statement_of(checkpoint), capture_output=True, check=False)
    return done.returncode == 0


# --- Verification ------------------------------------------------------------------------------------------------------


class Log:
    """What was read of an export so far."""

    def __init__(self, header, pem):
        self.header, self.pem = header, pem
        self.fingerprint = fingerprint_of(pem)
        self.problems, self.hashes, self.holding = [], {}, []
        self.expected, self.previous, self.trimmed_to, self.unchecked = header["from"], None, 0, 0
        self.beyond = 0
        if header["from"] == 1:
            self.previous = FIRST_PREVIOUS

    def add_entry(self, entry):
        seq = entry["seq"]
        if seq != self.expected:
            self.problems.append(f"entry {self.expected} is missing or out of order: entry {seq} stands there")
        elif hash_entry(entry) != entry["hash"]:
            self.problems.append(f"entry {seq} was changed: its hash does not fit what it says")
        elif entry["previous"] != (self.previous or entry["previous"]):
            self.problems.append(f"entry {seq} does not hold the hash of the one before it")
        elif not self.problems:
            # What the first entry says of the one before it, which may have been trimmed.
            self.hashes.setdefault(seq - 1, entry["previous"])
            self.hashes[seq] = self.previous = entry["hash"]
            if entry["type"] == "audit.trimmed" and isinstance(entry["by"], dict) and entry["by"]["kind"] == "link":
                self.trimmed_to = max(self.trimmed_to, entry["detail"].get("to", 0))
        self.expected = seq + 1

    def add_checkpoint(self, checkpoint, what="the checkpoint"):
        seq = checkpoint["seq"]
        if (checkpoint["tenant"], checkpoint["trustDomain"]) != (self.header["tenant"], self.header["trustDomain"]):
            self.problems.append(f"{what} of entry {seq} is of another log")
            return
        if checkpoint["keyFingerprint"] != self.fingerprint:
            # Of a key before: what it vouched for, a later one by this key must vouch for.
            self.problems.append((seq, f"{what} of entry {seq} is signed by another key"))
            return
        signed = is_signed(checkpoint, self.pem)
        if signed is False:
            self.problems.append(f"{what} of entry {seq} was changed: its signature does not hold")
            return
        self.unchecked += signed is None
        self.beyond = max(self.beyond, seq)
        if seq not in self.hashes:
            return
        if self.hashes[seq] != checkpoint["hash"]:
            self.problems.append(f"entry {seq} is not the one {what} is of")
        else:
            self.holding.append(seq)

    def conclude(self):
        last, before = self.expected - 1, self.header["from"] - 1
        if max(self.beyond, self.header["to"]) > last:
            self.problems.append(f"the log was cut: it ends at entry {last}, not {max(self.beyond, self.header['to'])}")
        if self.header["to"] < last:
            self.problems.append(f"the header says that entry {self.header['to']} is the last")
        if before > 0 and (self.trimmed_to != before or before not in self.holding):
            self.problems.append(f"entries up to {before} are missing, and the link did not take them away")
        vouched_to = max(self.holding, default=0)
        self.problems = [
            each[1] if isinstance(each, tuple) else each
            for each in self.problems
            if not isinstance(each, tuple) or each[0] > vouched_to
        ]
        return {
            "ok": not self.problems,
            "tenant": self.header["tenant"],
            "first": self.header["from"],
            "last": last,
            "trimmedTo": before if not self.problems else 0,
            "vouchedTo": vouched_to,
            "key": self.fingerprint,
            "signatures": "not checked: there is no openssl" if self.unchecked else "checked",
            "problems": self.problems,
        }


def verify(lines, public_key=None, kept=None):
    """Reads the lines of an export one by one and says what holds."""
    log, in_checkpoints = None, False
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        if line == "":
            continue
        value = parse_line(line)
        if log is None:
            if value is None or "format" not in value:
                raise ValueError("expected the header of an exported audit log in the first line")
            log = Log(value, public_key or value["publicKeyPem"])
        elif value is None or "format" in value:
            log.problems.append(f"line {number} is damaged, or not spelled as a link spells it")
        elif "signature" in value:
            in_checkpoints = True
            log.add_checkpoint(value)
        elif in_checkpoints:
            log.problems.append(f"line {number} is an entry after a checkpoint")
        else:
            log.add_entry(value)
    if log is None:
        raise ValueError("the export is empty")
    if kept is not None:
        log.add_checkpoint(kept, "the checkpoint that was kept")
    return log.conclude()


def main():
    parser = argparse.ArgumentParser(description="Check an exported audit log.")
    parser.add_argument("log", help="as rollcall audit export wrote it")
    parser.add_argument("--checkpoint", help="a checkpoint that was kept elsewhere")
    parser.add_argument("--public-key", help="the public key of the audit log, PEM, kept elsewhere")
    arguments = parser.parse_args()
    try:
        public_key = open(arguments.public_key, encoding="utf-8").read() if arguments.public_key else None
        kept = json.load(open(arguments.checkpoint, encoding="utf-8")) if arguments.checkpoint else None
        with open(arguments.log, encoding="utf-8", errors="replace", newline="\n") as lines:
            report = verify(lines, public_key, kept)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=2, ensure_ascii=False))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
