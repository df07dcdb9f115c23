"""A Redis or Valkey cluster of the tests' own."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sitq.testing.servers.lasting import Lasting
from sitq.testing.servers.places import REDIS, Binaries
from sitq.testing.servers.process import LOOPBACK, ServerError, free_port
from sitq.testing.servers.redis import RedisServer

SLOTS: Final = 16_384
NODE_TIMEOUT: Final = 2000
"""Milliseconds after which a silent node counts as gone."""

READY_WITHIN: Final = 60.0


class RedisCluster(Lasting):
    """Three nodes on the loopback that share the slots, without replicas.

    Attributes:
        nodes: The servers, to be killed, suspended and started again.
    """

    def __init__(
        self,
        settings: Mapping[str, str | int] | None = None,
        *,
        nodes: int = 3,
        lines: Sequence[str] = (),
        binaries: Path | None = None,
        kind: Binaries = REDIS,
    ) -> None:
        """Prepare the nodes, of Redis 7.0 or newer; `start` starts them and makes a cluster of them.

        Raises:
            FileNotFoundError: There are no binaries.
        """
        self.nodes: list[RedisServer] = []
        self._buses = [free_port() for _ in range(nodes)]  # by default 10,000 more, which may be none
        self._joined = False
        try:
            for bus in self._buses:
                own: dict[str, str | int] = {"cluster-enabled": "yes", "cluster-port": bus}
                own |= {"cluster-node-timeout": NODE_TIMEOUT, **(settings or {})}
                self.nodes.append(RedisServer(own, lines=lines, binaries=binaries, kind=kind))
        except BaseException:
            self.close()
            raise

    def url(self, *, login: str = "") -> str:
        """The cluster's URL, which names all nodes."""
        places = ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes)
        return f"redis+cluster://{login}{places}"

    def start(self) -> None:
        """Start the nodes that do not run, and wait until the cluster answers for all slots.

        Raises:
            ServerError: It did not come to be.
        """
        for node in self.nodes:
            if not node.process.running:
                node.start()
        if not self._joined:
            self._join()
            self._joined = True
        deadline = time.monotonic() + READY_WITHIN
        while not self.is_whole():
            if time.monotonic() > deadline:
                raise ServerError(f"no cluster within {READY_WITHIN:g} s: {self._say(0, 'CLUSTER', 'INFO')}")
            time.sleep(0.02)

    def is_whole(self) -> bool:
        """Whether each node knows all others, and that all slots are served."""
        for at in range(len(self.nodes)):
            known = self._say(at, "CLUSTER", "INFO")
            if "cluster_state:ok" not in known or f"cluster_known_nodes:{len(self.nodes)}" not in known:
                return False
            if self._say(at, "CLUSTER", "NODES").count(" connected") != len(self.nodes):
                return False
        return True

    def kill(self) -> None:
        """End all nodes at once, without their knowing."""
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """End the nodes and remove their folders."""
        for node in self.nodes:
            node.close()

    def _join(self) -> None:
        share = -(-SLOTS // len(self.nodes))
        for at, node in enumerate(self.nodes):
            slots = range(at * share, min(SLOTS, (at + 1) * share))
            self._say(at, "CLUSTER", "ADDSLOTS", *map(str, slots))
            self._say(at, "CLUSTER", "SET-CONFIG-EPOCH", str(at + 1))
            if at:
                self._say(0, "CLUSTER", "MEET", LOOPBACK, str(node.port), str(self._buses[at]))

    def _say(self, at: int, *words: str) -> str:
        """What a node answers, as far as one line or one text of it."""
        with socket.create_connection((LOOPBACK, self.nodes[at].port), 5.0) as connection:
            said = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{said}".encode())
            with connection.makefile("rb") as answer:
                first = answer.readline().decode().strip()
                if first.startswith("-"):
                    raise ServerError(f"{' '.join(words[:3])}: {first}")
                return answer.read(int(first[1:])).decode() if first.startswith("$") else first
