"""Subscriber churn: waves of libzmq SUBs that connect, subscribe, hear something, and close.

    zmq_churn.py 127.0.0.1:4505 WAVES SIZE

stdout: "wave N" after each wave in which every subscriber heard at least one message; fails if one does not.
"""

import sys

import zmq

PATIENCE_MS = 30_000


def wave(context, address, size):
    poller = zmq.Poller()
    waiting = set()
    for _ in range(size):
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        socket.subscribe(b"")
        socket.connect("tcp://" + address)
        poller.register(socket, zmq.POLLIN)
        waiting.add(socket)
    while waiting:
        ready = poller.poll(PATIENCE_MS)
        if not ready:
            sys.exit(f"{len(waiting)} of {size} subscribers heard nothing")
        for socket, _ in ready:
            socket.recv_multipart()
            poller.unregister(socket)
            waiting.discard(socket)
            socket.close()


def main():
    address, waves, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    context = zmq.Context(io_threads=1)
    context.max_sockets = 10_000
    for number in range(waves):
        wave(context, address, size)
        print("wave", number + 1, flush=True)


main()
