"""Names of Celery queues (our word: channels), and what a message of a run carries."""

from __future__ import annotations

from dataclasses import dataclass

from kombu import Exchange, Queue

from tasks.registry import kind_of, load_kinds
from tasks.slots import Reservation

#: Version of the message of a run; a worker refuses any other.
MESSAGE_VERSION = 1

#: Behind a device's name: the channel of what beat sends, and of what must not wait behind long exports.
HOUSEKEEPING = ".housekeeping"

#: Jobs that other services enqueue.
INTAKE = "arcfleet.intake"


def channel_of(device: str, *, housekeeping: bool = False) -> str:
    """Return the channel of a device."""
    return device + HOUSEKEEPING if housekeeping else device


def channel_for(kind: str, device: str) -> str:
    """Return the channel that runs of this kind go to."""
    return channel_of(device, housekeeping=kind_of(kind).is_housekeeping)


def kinds_by_channel(device: str) -> dict[str, list[str]]:
    """Return the channels of a device that carry runs, each with the kinds of task that go there."""
    found: dict[str, list[str]] = {}
    for name in load_kinds():
        found.setdefault(channel_for(name, device), []).append(name)
    return found


def declared(channel: str) -> Queue:
    """Return the Celery queue of a channel: on the default exchange, which a flushed broker cannot forget."""
    return Queue(channel, Exchange(""), routing_key=channel)


@dataclass(frozen=True, slots=True)
class RunMessage:
    """What travels: which run, and the token of its reservation. No data."""

    task_id: int
    run_id: int
    token: str

    @classmethod
    def of(cls, args: tuple[object, ...]) -> RunMessage:
        """Read the arguments of a Celery message.

        Raises:
            ValueError: they are not what our dispatch sends; the text says what was expected.
        """
        match args:
            case [int(version), int(task_id), int(run_id), str(token)] if version == MESSAGE_VERSION:
                return cls(task_id, run_id, token)
        raise ValueError(
            f"message of a run has {len(args)} arguments, version {args[0] if args else 'none'}; "
            f"expected version {MESSAGE_VERSION}, task id, run id and token"
        )


def celery_task_name(kind: str) -> str:
    """Return the name under which runs of this kind are shown in Flower."""
    return f"run.{kind_of(kind).slug}"


def celery_task_id(reservation: Reservation) -> str:
    """Return the id of the Celery message: task and run."""
    return f"{reservation.task_id}.{reservation.run_id}"


def ids_of(celery_id: str) -> tuple[int, int] | None:
    """Return task id and run id from the id of a Celery message; None if it is not one of a run."""
    task, _, run = celery_id.partition(".")
    return (int(task), int(run)) if task.isdigit() and run.isdigit() else None


def shown_arguments(reservation: Reservation) -> str:
    """Return what Flower shows as arguments: no data of patients."""
    study = f", study {reservation.study_uid}" if reservation.study_uid else ""
    return f"task {reservation.task_id}, {reservation.device}{study}"
