"""A name server for pods: every name resolves to the node, except those beginning with `gone.`, which do not exist."""

import socket
import struct
import sys

A = 1
ANSWERED = 0x8180
NO_SUCH_NAME = 0x8183


def answer(question, address):
    """The answer to a DNS query with one question."""
    labels = []
    position = 12
    while question[position]:
        length = question[position]
        labels.append(question[position + 1 : position + 1 + length].decode())
        position += length + 1
    end = position + 5
    kind = struct.unpack(">H", question[position + 1 : position + 3])[0]
    name = ".".join(labels).lower()
    if name.startswith("gone.") or name.endswith(".local"):
        flags, records = NO_SUCH_NAME, b""
    elif kind == A:
        # A pointer to the question's name, type, class, a TTL of 30 s, and the address.
        flags, records = ANSWERED, b"\xc0\x0c" + struct.pack(">HHIH", A, 1, 30, 4) + socket.inet_aton(address)
    else:
        flags, records = ANSWERED, b""
    counts = struct.pack(">HHHHH", flags, 1, 1 if records else 0, 0, 0)
    return question[:2] + counts + question[12:end] + records


def serve(address):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind((address, 53))
    while True:
        question, client = listener.recvfrom(1500)
        try:
            listener.sendto(answer(question, address), client)
        except (IndexError, UnicodeDecodeError, struct.error) as error:
            print("names: not a question:", error, file=sys.stderr)
