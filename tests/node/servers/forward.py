"""Forwards connections to another address: the API server's service address, instead of a kube-proxy."""

import socket
import threading


def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(address, goal):
    listener = socket.create_server(address, backlog=64)
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(goal)
        except OSError:
            client.close()
            continue
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=pump, args=(source, sink), daemon=True).start()
