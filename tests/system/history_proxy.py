"""What stands between a daemon and its database in the history checker: a TCP proxy that can be told to misbehave.

A process of its own, so that no thread of the checker delays the bytes:

    history_proxy.py NAME=ADDRESS=SOCKET ...

forwards what comes to each address (host:port; port 0 takes a free one) to the Unix socket. It prints the ports, and
answers each command with a line:

    reset NAME 1      every connection of that name is reset, at both ends
    refuse NAME 0|1   new ones are reset at once
    stall NAME 0|1    nothing is forwarded, and nothing closed
    delay NAME MS     every piece of bytes is forwarded that much later
"""
import os
import socket
import struct
import subprocess
import sys
import threading
import time

RESET = struct.pack("ii", 1, 0) # SO_LINGER: to close is to reset
COMMANDS = ("reset", "refuse", "stall", "delay")


class Proxy:
    """The process, as the checker sees it."""

    def __init__(self, *routes):
        """routes: (name, host, socket path); `ports` has one for each."""
        argv = [sys.executable, "-B", os.path.abspath(__file__)] + [f"{n}={h}:0={p}" for n, h, p in routes]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.ports = [int(port) for port in self.process.stdout.readline().split()]
        if len(self.ports) != len(routes):
            raise RuntimeError("the proxy did not start")
        self.lock = threading.Lock()

    def tell(self, command, name, value=1):
        assert command in COMMANDS
        with self.lock:
            self.process.stdin.write(f"{command} {name} {value}\n")
            self.process.stdout.readline()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- in the process -------------------------------------------------------------------------------------------------

class Relay:
    def __init__(self, routes):
        self.state = {command: {} for command in COMMANDS}
        self.pairs = {}
        self.lock = threading.Lock()
        self.ports = []
        for route in routes:
            name, address, path = route.split("=")
            host, port = address.rsplit(":", 1)
            listener = socket.create_server((host, int(port)))
            self.ports.append(listener.getsockname()[1])
            threading.Thread(target=self.accept, args=(name, listener, path), daemon=True).start()

    def accept(self, name, listener, path):
        while True:
            client, _ = listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                if self.state["refuse"].get(name):
                    raise ConnectionRefusedError()
                server.connect(path)
            except OSError:
                self.close((client, server), True)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs[(client, server)] = name
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self.pump, args=(name, (client, server), source, sink), daemon=True).start()

    def close(self, pair, reset):
        with self.lock:
            self.pairs.pop(pair, None)
        for end in pair:
            try:
                if reset and end.family == socket.AF_INET:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                # Wakes the thread that reads it, who holds it open; to end the sending would be to close in good order.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def pump(self, name, pair, source, sink):
        try:
            while True:
                data = source.recv(65536)
                while self.state["stall"].get(name):
                    time.sleep(0.005)
                time.sleep(self.state["delay"].get(name, 0) / 1000)
                if not data:
                    break
                sink.sendall(data)
        except OSError:
            self.close(pair, True)
        else:
            self.close(pair, False)

    def run(self):
        print(*self.ports, flush=True)
        for line in sys.stdin:
            command, name, value = line.split()
            self.state[command][name] = int(value)
            if command == "reset":
                with self.lock:
                    pairs = [pair for pair, owner in self.pairs.items() if owner == name]
                for pair in pairs:
                    self.close(pair, True)
            print("done", flush=True)


if __name__ == "__main__":
    Relay(sys.argv[1:]).run()
