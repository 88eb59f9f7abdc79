"""One connection to the broker for sending, with short time-outs and one try."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from kombu.exceptions import ChannelError, KombuError, OperationalError

from tasks.slots import Reservation
from workers import queues

#: Seconds: a frozen broker must not hold up a sender longer.
_TIMEOUT_S = 1


class BrokerError(Exception):
    """The broker did not take or answer something; the connection was dropped."""


class Broker:
    """A sender: not safe for use by several threads at once."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._connection: Any = None
        self._producer: Any = None

    def send(self, reservation: Reservation) -> None:
        """Send the message of a reservation to its channel.

        Raises:
            BrokerError: it is not known to be sent.
        """
        channel = queues.channel_for(reservation.kind, reservation.device)
        self.send_task(
            channel,
            queues.celery_task_name(reservation.kind),
            [queues.MESSAGE_VERSION, reservation.task_id, reservation.run_id, reservation.token],
            task_id=queues.celery_task_id(reservation),
            argsrepr=queues.shown_arguments(reservation),
        )

    def send_task(
        self, channel: str, name: str, args: list[Any], *, task_id: str | None = None, argsrepr: str | None = None
    ) -> None:
        """Send a Celery message to a channel.

        Raises:
            BrokerError: it is not known to be sent.
        """
        message = self._app.amqp.as_task_v2(
            task_id or str(uuid4()), name, args, {}, argsrepr=argsrepr, kwargsrepr="", ignore_result=True
        )
        try:
            self._connected().publish(
                message.body,
                exchange="",
                routing_key=channel,
                serializer="json",
                headers=message.headers,
                declare=[queues.declared(channel)],
                retry=False,
                **message.properties,
            )
        except self._errors() as error:
            self.close()
            raise BrokerError(f"{type(error).__name__}: {error}") from error

    def tell_workers(self, command: str, arguments: dict[str, object]) -> None:
        """Send a remote control command to all workers; Celery's own call waits for a broker that is away for ever.

        Raises:
            BrokerError: it is not known to be sent.
        """
        mailbox = self._app.control.mailbox
        message = {"method": command, "arguments": arguments, "destination": None, "pattern": None, "matcher": None}
        try:
            self._connected().publish(
                message,
                exchange=mailbox.exchange.name,
                declare=[mailbox.exchange],
                headers={"clock": self._app.clock.forward(), "expires": 0},
                serializer="json",
                retry=False,
            )
        except self._errors() as error:
            self.close()
            raise BrokerError(f"{type(error).__name__}: {error}") from error

    def depth(self, channel: str) -> int:
        """Return how many messages wait in a channel.

        Raises:
            BrokerError: the broker does not answer.
        """
        try:
            answer = self._connected().channel.queue_declare(queue=channel, passive=True)
        except ChannelError:
            # On Redis an empty queue does not exist; RabbitMQ, where nobody has declared it yet, ends the channel.
            if self._connection.transport.driver_type != "redis":
                self.close()
            return 0
        except self._errors() as error:
            self.close()
            raise BrokerError(f"{type(error).__name__}: {error}") from error
        return int(answer.message_count)

    def close(self) -> None:
        """Drop the connection; the next use makes a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            try:
                connection.release()
            except self._errors():
                pass

    def _connected(self) -> Any:
        if self._producer is None:
            options = {
                **self._app.conf.broker_transport_options,
                **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _TIMEOUT_S),  # Redis
                **dict.fromkeys(("read_timeout", "write_timeout"), _TIMEOUT_S),  # RabbitMQ
            }
            self._connection = self._app.connection_for_write(connect_timeout=_TIMEOUT_S, transport_options=options)
            self._producer = self._connection.Producer(auto_declare=False)
        return self._producer

    def _errors(self) -> tuple[type[BaseException], ...]:
        known: tuple[type[BaseException], ...] = (OSError, KombuError, OperationalError)
        if self._connection is not None:
            known += tuple(self._connection.connection_errors) + tuple(self._connection.channel_errors)
        else:
            known += tuple(self._app.connection_for_write().connection_errors)
        return known
