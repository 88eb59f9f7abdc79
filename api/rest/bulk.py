"""How a change of many tasks is answered: at once, as a preview, or as an operation that runs by itself."""

from __future__ import annotations

from fastapi import Request, Response

from api import answers, audit, running
from api.rest import calls, forwarding, operations
from api.rest.calls import Call
from api.rest.parameters import flag
from api.security import Caller
from tasks import kept_operations, wish
from tasks.wish import Wish

DRY_RUN = flag(calls.DRY_RUN, "Answer what would be done, per device, status and reason of refusal; change nothing.")

PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async`: answer 202 at once, and run as an operation that can be followed and cancelled.",
    "schema": {"type": "string"},
}


def answer(call: Call) -> Response:
    """Carry out a change of many tasks, and return its answer.

    Raises:
        InvalidError: a status, device, exporter or queue cannot be meant.
        ConflictError: a device is not one of the cluster.
        Unreachable: the tasks are those of a foreign device, which cannot be asked.
    """
    elsewhere = forwarding.forwarded(call)
    if elsewhere is not None:
        return elsewhere
    if call.is_dry_run:
        made = answers.preview(wish.carry_out(call.wished, call.caller.by, dry_run=True))
    else:
        made = carried_out(call.request, call.caller, call.wished)
    return answers.warned(made, call.given.warnings)


def carried_out(request: Request, caller: Caller, wished: Wish) -> Response:
    """Carry out a change of many tasks of ours, or begin it as an operation if the request prefers that.

    Raises:
        InvalidError: a status, device, exporter or queue cannot be meant.
        ConflictError: a device is not one of the cluster.
    """
    what = f"{request.url.path}?{answers.without_token(request)}"
    if _is_async(request):
        return _accepted(request, caller, what, wished)
    with audit.recorded(caller, wished.action, what) as entry:
        result = wish.carry_out(wished, caller.by)
        entry.count, entry.failed = result.count, result.failed
    return answers.bulk(result)


def _is_async(request: Request) -> bool:
    # RFC 7240 4.1
    preferences = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(one.partition(";")[0].strip() == "respond-async" for one in preferences)


def _accepted(request: Request, caller: Caller, what: str, wished: Wish) -> Response:
    wish.check(wished)
    kept = kept_operations.accept(wished, f"{request.method} {what}", caller.name, caller.host)
    running.operations.submit(kept.id)
    made = answers.as_json(operations.to_wire(kept), 202)
    made.headers["Location"] = f"{operations.base_of(request)}/monitor/operations/{kept.id}"
    made.headers["Preference-Applied"] = "respond-async"
    return made
