"""The main program of a worker process: makes the engine, gives up the process's rights, and serves each node on a thread."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import cbor2

from cloche._codec import write_cbor
from cloche._isolation import confine
from cloche._isolation.protocol import FRAMES_BYTES, PRIVATE, SAMPLE, WHERE
from cloche._isolation.samples import serve_samples
from cloche._isolation.server import NodeServer
from cloche._sandbox import Instance
from cloche._wasm import GUEST_STACK_BYTES, Engine, no_thread
from cloche._wasm import image as _image
from cloche._wasm import pagemap as _pagemap
from cloche.limits import Limits

__all__ = ["main"]

_THREAD_STACK_BYTES: Final = 2 * GUEST_STACK_BYTES
_MESSAGE_BYTES: Final = 4096


def main(control: socket.socket, boot: dict[str, Any]) -> None:
    """Run until the host closes `control`, or ends.

    Args:
        control: socket on which the host sends the sockets of new nodes, and cancellations.
        boot: the host's process id (`parent`), the folder of the image (`image`), and `metering`.
    """
    confine.at_start(boot["parent"])
    threading.stack_size(_THREAD_STACK_BYTES)

    def tell(*message: Any) -> None:
        control.send(write_cbor(message))

    try:
        image = _image.Image.open(Path(boot["image"]))
        load = partial(_image.load, image, boot["metering"], progress=partial(tell, "progress"))
        engine = Engine(boot["metering"], load, image.sha256)
        # before the rights are given up: for its first instance, the engine maps the image from a file
        Instance(engine, Limits(memory_bytes=4 << 30), "", lambda records, name: None).close(keep=True)
        _pagemap.keep_open()
        in_force, missing = confine.when_ready()
    except Exception as error:
        tell("failed", type(error).__name__, str(error))
        os._exit(1)
    tell("ready", engine.image_bytes, in_force, missing)
    serve(engine, control)
    os._exit(0)  # ends guests that still run, without the interpreter's shutdown


def _private_bytes(node: NodeServer | None) -> int:
    """The private memory of a node's guest; 0 if it has none, or if it cannot be measured."""
    try:
        return node.private_bytes if node is not None else 0
    except Exception:  # nothing about one node may end the thread that takes the orders for all
        return 0


def _say_where(answer: socket.socket, frames: list[list[Any]]) -> None:
    """Send a node's frames, the innermost ones if they are too many. Errors are ignored: the host may have stopped waiting."""
    while len(data := write_cbor(frames)) > FRAMES_BYTES:
        frames = frames[len(frames) // 4 + 1 :]
    with suppress(OSError):
        answer.send(data, socket.MSG_DONTWAIT)


def serve(engine: Engine, control: socket.socket) -> None:
    """Carry out the host's orders (CBOR): the number of a node, with its new socket, with a request to cancel, or with WHERE,
    PRIVATE or SAMPLE.
    """
    nodes: dict[int, NodeServer] = {}
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not data:
            return
        number, request, *numbers = cbor2.loads(data)
        if descriptors and request == WHERE:
            with socket.socket(fileno=descriptors[0]) as answer:
                node = nodes.get(number)
                try:
                    frames = node.where() if node is not None else []
                except Exception:  # a damaged guest must not end the thread that takes the orders for all nodes
                    frames = []
                _say_where(answer, frames)
        elif descriptors and request == PRIVATE:
            with socket.socket(fileno=descriptors[0]) as answer, suppress(OSError):
                answer.send(_private_bytes(nodes.get(number)).to_bytes(8, "little"), socket.MSG_DONTWAIT)
        elif descriptors and request == SAMPLE:
            channel, node = socket.socket(fileno=descriptors[0]), nodes.get(number)
            sampled = node.instance if node is not None else None
            try:
                threading.Thread(
                    target=serve_samples,
                    args=(sampled, channel, numbers[0] / 1e9),
                    name=f"samples-{number}",
                    daemon=True,
                ).start()
            except RuntimeError:  # no thread: the host sees that the socket is closed
                channel.close()
        elif descriptors:
            channel = socket.socket(fileno=descriptors[0])
            nodes[number] = node = NodeServer(engine, channel, partial(nodes.pop, number, None))
            try:
                threading.Thread(target=node.run, name=f"node-{number}", daemon=True).start()
            except RuntimeError as error:  # raised further, it would end the other nodes as well
                node.refuse(no_thread("in a worker process", error))
        elif number in nodes:
            nodes[number].cancel(request)
