"""A libzmq socket driven by lines: what it is told on stdin it does, what it receives it prints.

    zmq_peer.py dealer connect 127.0.0.1:4506 --mechanism curve --server-key HEX --secret HEX --identity web1

stdin:  send HEX[,HEX...]   sub HEX   unsub HEX   (end of file: leave)
stdout: ready PORT          recv HEX[,HEX...]

The socket is polled all the time: a libzmq SUB subscribes again after a reconnect only when its thread enters it.
"""

import argparse
import os
import sys

import zmq
from zmq.utils import z85

TYPES = {
    "dealer": zmq.DEALER,
    "pub": zmq.XPUB,  # prints subscriptions as messages, so that a test can wait for them
    "rep": zmq.REP,
    "req": zmq.REQ,
    "router": zmq.ROUTER,
    "sub": zmq.SUB,
    "xsub": zmq.XSUB,
}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("type", choices=TYPES)
    parser.add_argument("side", choices=["bind", "connect"])
    parser.add_argument("address")
    parser.add_argument("--mechanism", choices=["curve", "null"], default="null")
    parser.add_argument("--server-key")
    parser.add_argument("--secret")
    parser.add_argument("--identity")
    parser.add_argument("--metadata", help="NAME:VALUE, sent in the handshake")
    parser.add_argument("--heartbeat-ms", type=int)
    return parser.parse_args()


def secure(socket, args):
    """Give the socket its keys, as raw bytes in z85, the one form that every pyzmq takes."""
    secret = z85.encode(bytes.fromhex(args.secret))
    socket.curve_secretkey = secret
    socket.curve_publickey = zmq.curve_public(secret)
    if args.side == "bind":
        socket.curve_server = True
    else:
        socket.curve_serverkey = z85.encode(bytes.fromhex(args.server_key))


def open_socket(context, args):
    socket = context.socket(TYPES[args.type])
    socket.linger = 0
    socket.reconnect_ivl = 100
    if args.mechanism == "curve":
        secure(socket, args)
    if args.identity:
        socket.identity = args.identity.encode()
    if args.metadata:
        socket.setsockopt(zmq.METADATA, args.metadata.encode())
    if args.heartbeat_ms:
        socket.heartbeat_ivl = args.heartbeat_ms
        socket.heartbeat_timeout = 5 * args.heartbeat_ms
    getattr(socket, args.side)("tcp://" + args.address)
    return socket


def obey(socket, line):
    word, _, rest = line.strip().partition(" ")
    frames = [bytes.fromhex(part) for part in rest.split(",")]
    if word == "send":
        socket.send_multipart(frames)
    elif word == "sub":
        socket.subscribe(frames[0])
    elif word == "unsub":
        socket.unsubscribe(frames[0])


def say(*words):
    print(*words, flush=True)


def main():
    args = arguments()
    socket = open_socket(zmq.Context(), args)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(sys.stdin.fileno(), zmq.POLLIN)
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    say("ready", endpoint.rpartition(":")[2])
    rest = b""
    while True:
        ready = dict(poller.poll(50))
        if socket in ready:
            say("recv", ",".join(frame.hex() for frame in socket.recv_multipart()))
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 65536)  # not readline: what it buffers, poll cannot see
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                obey(socket, line.decode())


main()
