"""A RabbitMQ of a test's own: children on free ports of loopback, all files in a folder, nothing of the machine's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kombu import Connection

from tests.lab.waiting import wait_until
from workers.embedded import child

#: Debian's script in /usr/sbin changes to an account of its own; this one runs as we are.
_FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/usr/local/sbin", "/opt/homebrew/sbin")
_GUEST = "amqp://guest:guest@127.0.0.1:{port}//"


class RabbitMQ:
    """A broker that may be stopped, killed and started again on its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._distribution, self._epmd_port = (_free_port() for _ in range(3))
        self._epmd: child.Child | None = None
        self._server: child.Child | None = None

    @property
    def url(self) -> str:
        """Its URL."""
        return _GUEST.format(port=self._port)

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        environment = self._environment()
        if self._epmd is None:
            # Erlang starts one itself if it finds none, and leaves it behind as a daemon.
            command = [_need("epmd"), "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = child.start(child.Program(command, self._folder / "epmd.log", environment=environment))
        log = self._folder / "server.log"
        self._server = server = child.start(
            child.Program([_need("rabbitmq-server")], log, environment=environment, folder=self._folder)
        )
        wait_until(
            lambda: self._answers() or server.exit_code() is not None,
            "RabbitMQ takes connections",
            say=lambda: child.last_line(log),
        )
        assert server.exit_code() is None, f"RabbitMQ ended: {log.read_text(errors='replace')[-2000:]}"

    def stop(self) -> None:
        """End it in an orderly way."""
        if self._server is not None:
            self._server.stop(signal.SIGTERM, timeout_s=60)
            self._server = None

    def kill(self) -> None:
        """End it at once, as a power cut."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def forget(self, *queues: str) -> None:
        """Delete these queues with what is in them."""
        with Connection(self.url) as connection:
            for name in queues:
                connection.default_channel.queue_delete(name)

    def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl`."""
        command = [_need("rabbitmqctl"), *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"

    def url_of(self, user: str, password: str) -> str:
        """Return its URL for an account."""
        return self.url.replace("guest:guest", f"{user}:{password}")

    def end(self) -> None:
        """End all that was started."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False

    def _environment(self) -> dict[str, str]:
        plugins, settings = self._folder / "enabled_plugins", self._folder / "rabbitmq.conf"
        plugins.write_text("[].\n")
        settings.write_text("loopback_users.guest = true\n")
        nothing = self._folder / "nothing"
        nothing.touch()
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),  # Erlang keeps its cookie there
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"arcfleet{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._folder / "generated"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(settings),
            "RABBITMQ_CONF_ENV_FILE": str(nothing),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            # Its script then becomes the server, so that it ends when we do.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


@contextmanager
def running(folder: Path) -> Iterator[RabbitMQ]:
    """Run a broker for the block; skips the test where none is installed."""
    _need("rabbitmq-server")
    folder.mkdir(parents=True, exist_ok=True)
    server = RabbitMQ(folder)
    try:
        server.start()
        yield server
    finally:
        server.end()


def _need(program: str) -> str:
    folders = (*_FOLDERS, *os.environ.get("PATH", os.defpath).split(os.pathsep))
    found = shutil.which(program, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"{program} is not installed: apt-get install rabbitmq-server")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
