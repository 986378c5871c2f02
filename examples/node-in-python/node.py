"""A node of a Rollcall link in Python, written from docs/protocol.md alone: it enrolls with its registered key, holds a session,
renews its certificate, and answers every message of a run with the content that it came with. It runs no app, so it looks at no
signature of one; a node that runs what it is handed must. KEY.pem is a PKCS#8 private key on P-256 or P-384. Nothing is kept on
the disk: each start enrolls anew, with generation 0.
"""

import argparse
import ipaddress
import select
import socket
import struct
import sys
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

from rollcall.v1.enrollment_pb2 import Hello, Proof
from rollcall.v1.link_pb2 import LinkFrame, NodeFrame

VERSION, AGENT = 1, "node-in-python 1"


class Refused(Exception):
    """The link closed the connection, or refused a renewal, and said why."""

    def __init__(self, error):
        super().__init__(f"{error.code}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
        self.is_final, self.retry_after = error.is_final, error.retry_after_ms / 1000


class Connection:
    """Frames on one TLS connection to a verified link."""

    def __init__(self, host, port, ca_file, certificate=None, key=None):
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.load_verify_locations(ca_file)
        context.set_verify(SSL.VERIFY_PEER, lambda _conn, _cert, _error, _depth, ok: bool(ok))
        context.set_alpn_protos([b"rollcall/1"])
        if certificate is not None:
            context.use_certificate(crypto.X509.from_cryptography(certificate))
            context.use_privatekey(crypto.PKey.from_cryptography_key(key))
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.settimeout(None)
        self.tls = SSL.Connection(context, self.socket)
        if not is_address(host):
            self.tls.set_tlsext_host_name(host.encode())
        self.tls.set_connect_state()
        self.tls.do_handshake()
        check_name(self.tls.get_peer_certificate().to_cryptography(), host)
        # RFC 9266: what both ends of this connection know, and nobody else.
        self.binding = self.tls.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

    def send(self, **member):
        message = NodeFrame(**member).SerializeToString()
        try:
            self.tls.sendall(struct.pack(">I", len(message)) + message)
        except SSL.Error:
            while True:  # What came before the end may say why: this raises it.
                self.receive()

    def receive(self):
        (length,) = struct.unpack(">I", self._read(4))
        if length > 80 * 1024:
            raise ConnectionError("a frame that is too long")
        frame = LinkFrame.FromString(self._read(length))
        if frame.WhichOneof("frame") == "error":
            raise Refused(frame.error)
        return frame

    def is_readable(self, seconds):
        return self.tls.pending() > 0 or bool(select.select([self.socket], [], [], max(0.0, seconds))[0])

    def close(self):
        self.socket.close()

    def _read(self, length):
        parts = b""
        while len(parts) < length:
            try:
                parts += self.tls.recv(length - len(parts))
            except SSL.Error as error:
                raise ConnectionError("the connection to the link was lost") from error
        return parts


def is_address(host):
    return host.replace(".", "").isdigit() or ":" in host


def names_of(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def check_name(certificate, host):
    """OpenSSL has checked the chain; that the certificate is for this host is for us to check (RFC 9525)."""
    names = names_of(certificate)
    if is_address(host):
        if ipaddress.ip_address(host) in names.get_values_for_type(x509.IPAddress):
            return
    elif host.lower() in (name.lower() for name in names.get_values_for_type(x509.DNSName)):
        return
    raise ConnectionError(f"the certificate of the link is not for {host}")


def spki_of(key):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def sign(key, message):
    return key.sign(message, ec.ECDSA(hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()))


def transcript(role, trust_domain, tenant, binding, nonce, node_key, session_key, generation):
    fields = [b"rollcall enroll v1", role.encode(), trust_domain.encode(), tenant.encode(), b"tls-exporter"]
    fields += [binding, nonce, node_key, session_key, struct.pack(">Q", generation)]
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


class Node:
    def __init__(self, host, port, ca_file, key, tenant, renew_after):
        self.host, self.port, self.ca_file = host, port, ca_file
        self.key, self.tenant, self.renew_after = key, tenant, renew_after
        self.generation, self.trust_domain, self.replies = 0, "", {}

    def enroll(self, connection):
        """From the registered key to a certificate for a new session key; on a session it is the renewal."""
        hello = Hello(protocol_versions=[VERSION], tenant=self.tenant, public_key=spki_of(self.key))
        hello.binding_type, hello.agent_version = "tls-exporter", AGENT
        hello.node_clock_ms, hello.trust_domain = int(time.time() * 1000), self.trust_domain
        connection.send(hello=hello)
        challenge = self.await_answer(connection, "challenge")
        if challenge.protocol_version != VERSION or len(challenge.nonce) != 32:
            raise ConnectionError("the challenge makes no sense")
        if self.trust_domain not in ("", challenge.trust_domain):
            raise ConnectionError("this is the link of another fleet")
        session_key = ec.generate_private_key(ec.SECP256R1())
        signed = [challenge.trust_domain, self.tenant, connection.binding, challenge.nonce]
        signed += [spki_of(self.key), spki_of(session_key), self.generation]
        proof = Proof(session_public_key=spki_of(session_key), generation=self.generation)
        proof.signature = sign(self.key, transcript("node", *signed))
        proof.session_signature = sign(session_key, transcript("session", *signed))
        connection.send(proof=proof)
        enrolled = self.await_answer(connection, "enrolled")
        certificate = x509.load_der_x509_certificate(enrolled.certificate_chain[0])
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(enrolled.certificate_chain[1]))
        names = names_of(certificate)
        uri = f"spiffe://{challenge.trust_domain}/node/{enrolled.node_id}"
        if names.get_values_for_type(x509.UniformResourceIdentifier) != [uri]:
            raise ConnectionError("the certificate is not for this node")
        if certificate.public_key() != session_key.public_key():
            raise ConnectionError("the certificate is not for the session key")
        self.trust_domain, self.generation = challenge.trust_domain, enrolled.generation
        print(f"enrolled as {enrolled.node_id}, generation {enrolled.generation}", flush=True)
        renew_after = self.renew_after or enrolled.renew_after_ms / 1000
        return certificate, session_key, time.monotonic() + renew_after

    def await_answer(self, connection, member):
        """On a session other frames come in between."""
        while True:
            frame = connection.receive()
            found = frame.WhichOneof("frame")
            if found == "enrollment_refused":
                raise Refused(frame.enrollment_refused)
            if found == member:
                return getattr(frame, member)
            self.take(connection, frame)

    def open_session(self, certificate, key):
        connection = Connection(self.host, self.port, self.ca_file, certificate, key)
        runs = {run for run, _ in self.replies}
        connection.send(ready={"protocol_version": VERSION, "agent_version": AGENT, "runs": runs})
        welcome = self.await_answer(connection, "welcome")
        print(f"online as {welcome.node_id}", flush=True)
        # What was not acknowledged before is sent again.
        for reply in self.replies.values():
            connection.send(reply=reply)
        return connection, welcome.silence_ms / 1000

    def take(self, connection, frame):
        member = frame.WhichOneof("frame")
        if member == "ping":
            connection.send(pong={"sequence": frame.ping.sequence})
        elif member == "deliver":
            asked = frame.deliver
            reply = {"run": asked.run, "message": asked.message, "body": asked.body}
            self.replies[asked.run, asked.message] = reply
            connection.send(reply=reply)
        elif member == "acknowledge":
            self.replies.pop((frame.acknowledge.run, frame.acknowledge.message), None)
        elif member == "cancel":
            run, message = frame.cancel.run, frame.cancel.message
            for known in [each for each in self.replies if each[0] == run and message in (0, each[1])]:
                del self.replies[known]
        # Trust bundles, Assign, Drain and what a newer link may send are passed over.

    def hold(self, certificate, session_key, renew_at):
        """Online until the connection ends, which raises."""
        connection, silence = self.open_session(certificate, session_key)
        heard_at = time.monotonic()
        while True:
            wait = min(renew_at, heard_at + silence) - time.monotonic()
            if connection.is_readable(wait):
                self.take(connection, connection.receive())
                heard_at = time.monotonic()
            elif time.monotonic() >= renew_at:
                certificate, session_key, renew_at = self.enroll(connection)
                following, silence = self.open_session(certificate, session_key)
                connection.send(leave={})
                connection.close()
                connection, heard_at = following, time.monotonic()
            else:
                raise ConnectionError("the link fell silent")

    def run(self):
        failures = 0
        while True:
            try:
                first = Connection(self.host, self.port, self.ca_file)
                enrolled = self.enroll(first)
                first.close()
                self.hold(*enrolled)
            except (Refused, ConnectionError, OSError, SSL.Error) as error:
                print(f"offline: {error}", file=sys.stderr, flush=True)
                if isinstance(error, Refused) and error.is_final:
                    return 4
                failures += 1
                time.sleep(max(getattr(error, "retry_after", 0), min(30, 0.5 * 2 ** min(failures, 6))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("HOST:PORT", "CA.pem", "KEY.pem"):
        parser.add_argument(name)
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--renew-after", type=float, help="seconds; the link says when by default")
    options = vars(parser.parse_args())
    host, port = options["HOST:PORT"].rsplit(":", 1)
    with open(options["KEY.pem"], "rb") as file:
        key = serialization.load_pem_private_key(file.read(), password=None)
    place = (host.strip("[]"), int(port), options["CA.pem"])
    return Node(*place, key, options["tenant"], options["renew_after"]).run()


if __name__ == "__main__":
    sys.exit(main())
