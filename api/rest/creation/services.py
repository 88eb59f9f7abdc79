"""Make tasks as a request asks: one, those of all that a query matches, those of the lines of a CSV."""

from __future__ import annotations

from fastapi import Request, Response

from api import answers, audit
from api.answers import BadRequest, TooLarge
from api.rest import shape
from api.rest.creation import asking
from api.rest.creation.asking import Asked
from api.rest.creation.recipe import Recipe
from api.rest.creation.sources import Matches
from api.rest.creation.upload import Body, Upload, column
from api.rest.filters import ALL
from api.rest.parameters import Given, Parameter, flag
from api.security import Caller
from archive import db, matching
from archive.errors import InvalidKey
from archive.matching import Key, Level
from config import settings
from tasks import creating, operations, sharing, waited
from tasks.creating import Created, Order, Source, Subject
from tasks.operations import Scheduled
from tasks.record import TaskView
from tasks.registry import kind_of

FUZZY = flag("fuzzymatching", "Only false can be done: names are matched as they are written.")


def make_one(asked: Asked, subject: Subject, wait_s: float = 0.0) -> Scheduled:
    """Make one task, on the device that has the least waiting.

    Args:
        asked: the request.
        subject: what the task is about.
        wait_s: how long the client waits for its end; a task that fails before is not tried again.

    Raises:
        BadRequest, InvalidError: a parameter cannot be used; nothing was made.
        ConflictError: the idempotency key was used for something else.
    """
    new = waited.waited_for(asked.maker()(subject, sharing.least_waiting(asked.devices)), wait_s)
    with audit.recorded(asked.caller, asked.recipe.action, asked.uri) as entry:
        made = operations.schedule(
            new,
            asked.caller.by,
            allow_duplicate=asked.allow_duplicate,
            equal_on=[device.name for device in asked.devices],
            once=asked.once(),
        )
        entry.count = 0 if made.existed or made.repeated else 1
    if made.existed:
        asked.given.warn(
            f"an equal task {'waits' if made.task.status.is_waiting else 'runs'} already: {made.task.id};"
            " allowDuplicate=true makes another one"
        )
    if made.repeated:
        asked.given.warn(f"the request was answered before with task {made.task.id}")
    return made


def answer_one(asked: Asked, made: Scheduled) -> Response:
    """Return 202 with the task, and where it is to be seen."""
    look = next((one for one in shape.shapes().values() if one.kind == made.task.kind), None)
    zone = settings.current().zone()
    wire = shape.typed(made.task, zone) if look is None else shape.to_wire(made.task, look, zone)
    return located(asked, made.task, answers.as_json(wire, 202, asked.given.warnings))


def located(asked: Asked, task: TaskView, answer: Response) -> Response:
    """Say in an answer where the task is to be seen."""
    base = asked.request.url.path.partition("/aets/")[0]
    answer.headers["Location"] = f"{base}/monitor/{kind_of(task.kind).slug}/{task.id}"
    return answer


def query_parameters(level: Level) -> tuple[Parameter, ...]:
    """Return the parameters of a query of the index, as keywords and as tags."""
    known = matching.keys_of(level)
    named = [
        Parameter(key.keyword, f"({key.tag[:4]},{key.tag[4:]}): {key.expected}.", repeatable=_may_repeat(key))
        for key in known
    ]
    tags = [Parameter(key.tag, f"The same as {key.keyword}.", repeatable=_may_repeat(key)) for key in known]
    return (ALL, asking.DRY_RUN, FUZZY, *named, *tags)


def documented(level: Level) -> tuple[Parameter, ...]:
    """Return those of them that the OpenAPI document names: the keywords."""
    return tuple(one for one in query_parameters(level) if not one.name[:1].isdigit())


def matching_index(recipe: Recipe, level: Level, request: Request, caller: Caller) -> Response:
    """Make a task for each match of a query of our index: 202 with the count."""
    known = query_parameters(level)
    asked = asking.read(recipe, request, caller, known)
    within = asking.entity_of(asked.path) if "study" in asked.path else None
    keys = keys_of(asked.given, level)
    refuse_all(asked.given, is_filtered=bool(keys) or within is not None)
    try:
        wanted = matching.read(level, keys, within=within)
    except InvalidKey as error:
        raise BadRequest(str(error)) from error
    with db.transaction() as session:
        refuse_too_many(asked, matching.count(session, wanted))
    return make_many(asked, Matches(wanted), nothing=None)


def lines_of_csv(recipe: Recipe, request: Request, caller: Caller, body: Body) -> Response:
    """Make a task for each line of a CSV: 202 with the count, 204 with a Warning if no line can be used."""
    names = {"studyField": "StudyInstanceUID", "seriesField": "SeriesInstanceUID"}
    with body.file:
        asked = asking.read(recipe, request, caller, (asking.DRY_RUN,))
        columns = [(name, column(name, asked.path[field])) for field, name in names.items() if field in asked.path]
        upload = Upload(body, columns)
        upload.check()
        return make_many(asked, upload, digest=body.digest, nothing=upload.nothing)


def refuse_all(given: Given, *, is_filtered: bool) -> None:
    """Refuse a query without any key that was not asked for as such.

    Raises:
        BadRequest: there is neither a key nor `all=true`, or names shall be matched fuzzily.
    """
    refuse_fuzzy(given)
    if not is_filtered and not given.is_true(ALL.name):
        raise BadRequest("Missing query parameter: to mean all studies say all=true, else a key such as StudyDate")


def refuse_fuzzy(given: Given) -> None:
    """Refuse names that shall be matched by their sound.

    Raises:
        BadRequest: they shall.
    """
    if given.is_true(FUZZY.name):
        raise BadRequest("fuzzymatching=true: expected false, names are matched as they are written")


def refuse_too_many(asked: Asked, number: int) -> None:
    """Refuse more tasks than a query may make at these devices.

    Raises:
        TooLarge: there are more.
    """
    limits = [device.query_max_results for device in asked.devices if device.query_max_results]
    if limits and number > min(limits):
        raise TooLarge(f"{number:,} matches: expected at most {min(limits):,} (dcmQueryMaxNumberOfResults)")


def make_many(asked: Asked, source: Source, *, digest: str = "", nothing: str | None) -> Response:
    """Make a task for each entity of a source.

    Args:
        asked: the request.
        source: what the tasks are about.
        digest: of the body, for the idempotency key.
        nothing: what the Warning of 204 says if the source is empty; None: 202 with count 0.
    """
    dry_run = asked.given.is_true(asking.DRY_RUN.name)
    order = Order(source, asked.maker(), asked.devices, asked.allow_duplicate)
    if dry_run:
        return _previewed(asked, creating.create(order, asked.caller.by, dry_run=True))
    with audit.recorded(asked.caller, f"{asked.recipe.action}s", asked.uri) as entry:
        made = creating.create(order, asked.caller.by, once=asked.once(digest))
        entry.count = 0 if made.repeated else made.count
    if made.existed:
        asked.given.warn(f"{made.existed} equal tasks are there already; allowDuplicate=true makes others")
    if made.repeated:
        asked.given.warn("the request was answered before")
    if nothing is not None and not made.count and not made.existed:
        return answers.empty([*asked.given.warnings, nothing])
    return answers.as_json({"count": made.count}, 202, asked.given.warnings)


def _previewed(asked: Asked, made: Created) -> Response:
    said = {
        "dryrun": True,
        "count": made.count,
        "existing": made.existed,
        "byDevice": dict(sorted(made.by_device.items())),
    }
    return answers.as_json(said, 200, asked.given.warnings)


def remote_keys(given: Given) -> dict[str, str]:
    """Return the keys of a query of another archive: keywords with values, backslashes between several."""
    return {
        key.keyword: value.replace(",", "\\") if _may_repeat(key) else value
        for key, value in keys_of(given, Level.STUDY)
    }


def keys_of(given: Given, level: Level) -> list[tuple[Key, str]]:
    """Return the keys of a query with their values.

    Raises:
        BadRequest: one is given twice that can only be one thing.
    """
    found = []
    for key in matching.keys_of(level):
        values = [*given.all(key.keyword), *given.all(key.tag)]
        if len(values) > 1 and not _may_repeat(key):
            raise BadRequest(f"Query parameter {key.keyword} is given more than once, expected one value")
        found += [(key, ",".join(values))] if values else []
    return found


def _may_repeat(key: Key) -> bool:
    return key.keyword.endswith("UID")
