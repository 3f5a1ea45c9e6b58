#!/usr/bin/env python3
"""A Halite minion in one file: pyzmq and msgpack, nothing else (docs/native-wire.md says what goes over the wire).

    pip install pyzmq msgpack
    python3 examples/minion.py --id web1 --master 127.0.0.1 --publish-port 4505 --request-port 4506

It makes a key, waits until `halite key accept web1`, fires an event, and answers `test.ping`. libzmq reconnects both
sockets by itself; every `welcome` starts the session anew and sends again what was not acknowledged.
"""

import argparse
import os
import platform
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq
from zmq.utils import z85

Load = dict[str, Any]


def say(*words: object) -> None:
    print(*words, flush=True)


def own_keys(path: Path) -> tuple[bytes, bytes]:
    """Return the minion's pair (public, secret) in z85; the secret is made once, in a file for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(zmq.curve_keypair()[1])
    secret = path.read_bytes()
    return zmq.curve_public(secret), secret


def hello(context: zmq.Context, address: str) -> Load:
    """Ask the master who it is, in clear, for as long as it takes until it answers."""
    while True:
        with context.socket(zmq.REQ) as socket:
            socket.linger, socket.rcvtimeo = 0, 5_000
            socket.connect(address)
            socket.send(msgpack.packb({"cmd": "hello", "versions": [1]}))
            try:
                return msgpack.unpackb(socket.recv())
            except zmq.Again:
                say("waiting for", address)


def pinned(path: Path, offered: bytes) -> bytes:
    """Trust the master's key on first use; from then on no other one."""
    if not path.exists():
        path.write_bytes(offered)
    if path.read_bytes() != offered:
        raise SystemExit(f"refused: the master's key is not the one in {path}; delete that file if the change is right")
    return offered


class Minion:
    """One session after the other, all in the thread that calls `run`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.id, self.context = args.id, zmq.Context()
        self.publish_at = f"tcp://{args.master}:{args.publish_port}"
        request_at = f"tcp://{args.master}:{args.request_port}"
        self.keys = own_keys(args.keys / f"{args.id}.key")
        master = hello(self.context, request_at)
        self.master_key = z85.encode(pinned(args.keys / f"{args.id}.master", master["key"]))
        say("hello", master["master_id"], master["software"])
        self.instance, self.spool = os.urandom(16), os.urandom(16)
        self.unacknowledged: list[Load] = []  # oldest first; each has its n
        self.n = self.seq = 0
        self.asked: dict[int, str] = {}  # seq -> cmd
        self.seen: dict[str, int] = {}  # jid -> expires in ms: a job that comes twice runs once
        self.dealer, self.subscriber = self.open(zmq.DEALER, request_at), None
        self.put("_minion_event", events=[{"tag": f"example/{self.id}/start", "data": {"pid": os.getpid()}}])

    def open(self, kind: int, address: str) -> zmq.Socket:
        socket = self.context.socket(kind)
        socket.curve_publickey, socket.curve_secretkey = self.keys
        socket.curve_serverkey = self.master_key
        socket.linger, socket.reconnect_ivl = 0, 500
        socket.heartbeat_ivl, socket.heartbeat_timeout = 15_000, 45_000
        if kind == zmq.DEALER:
            socket.identity = self.id.encode()
        else:
            socket.setsockopt(zmq.METADATA, f"X-minion:{self.id}".encode())
            socket.subscribe(f"m/{self.id}")
        socket.connect(address)
        return socket

    def run(self) -> None:
        while True:
            sockets = [socket for socket in (self.dealer, self.subscriber) if socket]
            ready, _, _ = zmq.select(sockets, [], [])
            if self.dealer in ready:
                self.pushed(msgpack.unpackb(self.dealer.recv(), strict_map_key=False))
            elif self.subscriber in ready:
                topic, load = self.subscriber.recv_multipart()
                if topic.decode() == f"m/{self.id}":  # libzmq compares prefixes only
                    self.job(msgpack.unpackb(load, strict_map_key=False))

    def pushed(self, load: Load) -> None:
        """Act on what the master sent to the DEALER (native-wire.md section 3)."""
        match load["cmd"]:
            case "welcome":
                say("welcome", load["state"], load.get("reason") or "")
                if load["state"] == "accepted":
                    self.ask("session", instance=self.instance, kind="daemon", version=1, software="minion.py",
                             grains={"id": self.id, "kernel": platform.system(), "nodename": platform.node()})
            case "subscribed":
                say("subscribed")
                self.ask("jobs_since", serial=0)
            case "ack" if load["spool"] == self.spool:
                say("acknowledged", load["n"])
                self.unacknowledged = [sent for sent in self.unacknowledged if sent["n"] > load["n"]]
                self.send_oldest()
            case "reply":
                self.answered(self.asked.pop(load["seq"], "?"), load)

    def ask(self, cmd: str, **fields: Any) -> None:
        self.seq += 1
        self.asked[self.seq] = cmd
        self.dealer.send(msgpack.packb({"cmd": cmd, "seq": self.seq, **fields}))

    def answered(self, cmd: str, load: Load) -> None:
        if "error" in load:
            say("refused", cmd, load["error"]["code"], load["error"]["reason"])
        elif cmd == "session":
            # A new one each time: one that connected while the key was not accepted would get nothing for a minute.
            if self.subscriber:
                self.subscriber.close()
            self.subscriber = self.open(zmq.SUB, self.publish_at)
            self.send_oldest()
        elif cmd == "jobs_since":
            for job in load["reply"]["jobs"]:
                self.job(job)

    def put(self, cmd: str, **fields: Any) -> None:
        """Keep a load until it is acknowledged; it is sent when it is the oldest."""
        self.n += 1
        self.unacknowledged.append({"cmd": cmd, "spool": self.spool, "n": self.n, **fields})
        if len(self.unacknowledged) == 1:
            self.send_oldest()

    def send_oldest(self) -> None:
        """Send one load. Only one is ever on its way, so nothing overtakes it. Before the first session none goes."""
        if self.unacknowledged and self.subscriber:
            self.dealer.send(msgpack.packb(self.unacknowledged[0]))

    def job(self, job: Load) -> None:
        """Run a publication, once, and return Salt's fields."""
        now = time.time_ns() // 1_000_000
        self.seen = {jid: expires for jid, expires in self.seen.items() if expires > now}
        if job["jid"] in self.seen or job["expires"] <= now:
            return
        self.seen[job["jid"]] = job["expires"]
        say("job", job["jid"], job["fun"])
        known = job["fun"] == "test.ping"
        result = {"return": True if known else f"'{job['fun']}' is not available.", "success": known}
        copied = {"jid": job["jid"], "fun": job["fun"], "fun_args": job["arg"], "user": job.get("user", "")}
        self.put("_return", retcode=int(not known), **result, **copied)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Halite minion that knows test.ping.")
    parser.add_argument("--id", required=True, help="the minion id")
    parser.add_argument("--master", required=True, metavar="HOST")
    parser.add_argument("--publish-port", type=int, default=4505, metavar="P")
    parser.add_argument("--request-port", type=int, default=4506, metavar="R")
    parser.add_argument("--keys", type=Path, default=Path("minion-keys"), metavar="DIR", help="default ./minion-keys")
    Minion(parser.parse_args()).run()
