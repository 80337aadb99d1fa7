"""Changes in columns: the compact form in which segments and feeds carry changes (PROTOCOL.md §6).

A change's canonical bytes are a function of its values, so they need not travel: what repeats is factored out, what is
alike stands together, and the receiver builds the bytes anew and with them the id. A change that does not come out of
this byte for byte (a newer author's extra keys) travels raw. Rows keep their order.

The block is one msgpack array:

    [count, nodes, persons, facilities, afters, kinds, shapes,    distinct values, in order of first appearance
     columns,                                                     which of them each row has
     times, tails,                                                record ids: differences of 48 bits, then 80 bits each
     patients, salts, hlcs, supersedes, bodies, raws]

Sizes are bounded by the caller before decompression; here every index is checked, and nothing but this project's own
errors is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

import msgspec

from sync_protocol import change as changes
from sync_protocol.canonical import Value
from sync_protocol.change import ID_BYTES, Change
from sync_protocol.errors import HealthSyncError, Malformed, TooLarge

MAX_CHANGES: Final = 8_192  # a 64 KiB segment of the smallest changes; bounds the work one block can ask for
TIME_BYTES: Final = 6  # a UUIDv7 starts with 48 bits of milliseconds: sent as differences
TAIL_BYTES: Final = ID_BYTES - TIME_BYTES
RAW_SHAPE: Final = -1
ELEMENTS: Final = "/"  # a shape's column "complaints/" holds {key: value} of all elements of that family
PLAIN, REFERENCES = 0, 9  # 1 to 3 in between: decimals of that many places
MAX_PLACES: Final = 3

_encoder = msgspec.msgpack.Encoder(order="deterministic")


class _Distinct:
    """Values in order of first appearance, each with its number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._at: dict[Any, int] = {}

    def number(self, value: Any) -> int:
        at = self._at.get(value)
        if at is None:
            at = self._at[value] = len(self.values)
            self.values.append(value)
        return at


def _constant(column: list[int]) -> list[int] | int:
    """A column that says one thing throughout is that one number."""
    return column[0] if column and column.count(column[0]) == len(column) else column


def pack(batch: Sequence[Change], own: bytes = b"") -> bytes:
    """The block of at most `MAX_CHANGES` changes, else TooLarge. own: the envelope's sender, which is not repeated."""
    if len(batch) > MAX_CHANGES:
        raise TooLarge(f"more than {MAX_CHANGES} changes in one block")
    nodes, persons, facilities, afters, kinds, shapes = (_Distinct() for _ in range(6))
    node_of, person_of, facility_of, after_of, shape_of = [], [], [], [], []
    times, tails, hlc_ms, hlc_counts = [], bytearray(), [], []
    supersedes: list[Any] = []
    bodies: list[list[list[Value]]] = []
    raws: list[bytes] = []
    scope = _ScopeWriter()
    row_of: dict[bytes, int] = {}
    references: list[list[int]] = []
    last_time = 0
    base = last_ms = _first_time(batch)
    for row, change in enumerate(batch):
        if not _is_regular(change):
            shape_of.append(RAW_SHAPE)
            raws.append(change.raw)
            continue
        node_of.append(nodes.number(b"" if change.node == own else change.node))
        person_of.append(persons.number(change.person))
        facility_of.append(facilities.number(change.facility))
        after_of.append(afters.number(change.after))
        time = int.from_bytes(change.record[:TIME_BYTES], "big")
        times.append(time - last_time)
        last_time = time
        tails += change.record[TIME_BYTES:]
        hlc_ms.append((change.hlc >> 16) - last_ms)
        last_ms = change.hlc >> 16
        hlc_counts.append(change.hlc & 0xFFFF)
        scope.add(change)
        if change.supersedes:
            supersedes.append([row, change.supersedes])
        names, values = _shape(change)
        number = shapes.number((kinds.number(change.kind), *names))
        shape_of.append(number)
        if number == len(bodies):
            bodies.append([[] for _ in names])
            references.append([])
        for column, value in zip(bodies[number], values, strict=True):
            column.append(value)
        references[number].append(row)
        row_of[change.record] = row
    encoded = [
        [_encode_column(column, rows, row_of) for column in columns]
        for columns, rows in zip(bodies, references, strict=True)
    ]
    return _encoder.encode(
        [
            len(batch),
            nodes.values,
            persons.values,
            facilities.values,
            [after - base for after in afters.values],
            kinds.values,
            [list(shape) for shape in shapes.values],
            [_constant(column) for column in (shape_of, node_of, person_of, facility_of, after_of)],
            times,
            bytes(tails),
            scope.patients(),
            scope.salts(),
            [hlc_ms, _constant(hlc_counts)],
            supersedes,
            encoded,
            raws,
        ]
    )


def _first_time(batch: Sequence[Change]) -> int:
    """The time in the first record's id: clocks of the block are told as differences from it."""
    first = next((change for change in batch if _is_regular(change)), None)
    return int.from_bytes(first.record[:TIME_BYTES], "big") if first else 0


def _is_regular(change: Change) -> bool:
    """Whether the columns can bring back exactly these bytes."""
    for name, value in change.writes.items():
        if ELEMENTS in name and (type(value) is not dict or not name.partition(ELEMENTS)[0]):
            return False
    rebuilt = changes.rebuild(_fields(change, change.writes, change.supersedes))
    return rebuilt.raw == change.raw


def _fields(change: Change, writes: dict[str, Value], supersedes: Any) -> tuple[Any, ...]:
    return (
        change.after,
        change.facility,
        change.hlc,
        change.kind,
        change.node,
        change.patient,
        change.person,
        change.record,
        change.salt,
        supersedes,
        writes,
    )


def _shape(change: Change) -> tuple[list[str], list[Value]]:
    """The columns of a change and their values: plain fields, and one map for the elements of each family."""
    columns: dict[str, Value] = {}
    for name, value in change.writes.items():
        family, separator, key = name.partition(ELEMENTS)
        if separator:
            only_present = len(value) == 1 and value.get("present") is True
            columns.setdefault(family + ELEMENTS, {})[key] = 0 if only_present else value
        else:
            columns[name] = value
    names = sorted(columns)
    return names, [columns[name] for name in names]


class _ScopeWriter:
    """Patients and salts: a patient is new with its own record (0), new and named (1), or n back in the list (n+2)."""

    def __init__(self) -> None:
        self._index: dict[bytes, int] = {}
        self._numbers: list[int] = []
        self._named = bytearray()
        self._salt_of: dict[bytes, bytes] = {}
        self._fresh: list[int] = []
        self._salts = bytearray()

    def add(self, change: Change) -> None:
        patient: bytes = change.patient
        if patient in self._index:
            self._numbers.append(len(self._index) + 1 - self._index[patient])
        else:
            own = patient == change.record
            self._numbers.append(0 if own else 1)
            if not own:
                self._named += patient
            self._index[patient] = len(self._index)
        same = self._salt_of.get(patient) == change.salt
        self._fresh.append(0 if same else 1)
        if not same:
            self._salts += change.salt
            self._salt_of[patient] = change.salt

    def patients(self) -> list[Any]:
        return [self._numbers, bytes(self._named)]

    def salts(self) -> list[Any]:
        return [_constant(self._fresh), bytes(self._salts)]


def _encode_column(column: list[Value], rows: list[int], row_of: dict[bytes, int]) -> Any:
    """A column as [encoding, values]: decimals as integers, references to records of the block as distances."""
    if any(type(value) is float for value in column):
        for places in range(1, MAX_PLACES + 1):
            scaled = [_scaled(value, places) for value in column]
            if all(part is not False for part in scaled):
                return [places, scaled]
    if any(type(value) is bytes and value in row_of for value in column):
        distances = [_distance(value, row, row_of) for value, row in zip(column, rows, strict=True)]
        if all(part is not False for part in distances):
            return [REFERENCES, distances]
    return [PLAIN, column]


def _scaled(value: Value, places: int) -> Any:
    """The value times ten to the places, None for None; False where that does not bring the value back."""
    if value is None:
        return None
    if type(value) not in (int, float) or abs(value) > 1e9:
        return False
    number = round(value * 10**places)
    return number if _unscaled(number, places) == value and type(_unscaled(number, places)) is type(value) else False


def _unscaled(number: int, places: int) -> float | int:
    divisor: int = 10**places
    return number // divisor if number % divisor == 0 else number / divisor


def _distance(value: Value, row: int, row_of: dict[bytes, int]) -> Any:
    if value is None:
        return None
    if type(value) is not bytes:
        return False
    at = row_of.get(value)
    return value if at is None else row - at


# -- reading ----------------------------------------------------------------------------------------------------------


class _Block(msgspec.Struct, array_like=True, frozen=True):
    """The block's shape, so that the decoder itself checks types."""

    count: int
    nodes: list[bytes]
    persons: list[bytes]
    facilities: list[str]
    afters: list[int]
    kinds: list[str]
    shapes: list[list[int | str]]
    columns: list[list[int] | int]
    times: list[int]
    tails: bytes
    patients: tuple[list[int], bytes]
    salts: tuple[list[int] | int, bytes]
    hlcs: tuple[list[int], list[int] | int]
    supersedes: list[tuple[int, dict[str, list[bytes]]]]
    bodies: list[list[tuple[int, list[Any]]]]
    raws: list[bytes]


_decoder = msgspec.msgpack.Decoder(_Block)

Outcome = Change | HealthSyncError
"""What one row came out as: the change, or why it is none. A bad row never hides its neighbours."""


def unpack(block: bytes, own: bytes = b"") -> list[Outcome]:
    """The changes of a block, in order; in the place of a bad one, its error. own: as for `pack`.

    Raises Malformed or TooLarge when the block itself cannot be read.
    """
    try:
        parts = _decoder.decode(block)
    except (msgspec.MsgspecError, RecursionError, ValueError, TypeError, MemoryError) as error:
        raise Malformed(f"a block of changes cannot be read ({type(error).__name__})") from None
    if not 0 <= parts.count <= MAX_CHANGES:
        raise TooLarge(f"a block announces more than {MAX_CHANGES} changes")
    try:
        return list(_rows(parts, own))
    except (IndexError, StopIteration, RuntimeError, ValueError, KeyError, OverflowError, TypeError) as error:
        raise Malformed(f"a block of changes contradicts itself ({type(error).__name__})") from None


def _spread(column: list[int] | int, count: int) -> list[int]:
    if isinstance(column, int):
        return [column] * count
    if len(column) != count:
        _refuse("a column's length")
    return column


def _refuse(what: str) -> NoReturn:
    raise Malformed(f"a block of changes contradicts itself: {what}")


def _pick(values: Sequence[Any], at: int, what: str) -> Any:
    if not 0 <= at < len(values):
        _refuse(what)
    return values[at]


def _rows(parts: _Block, own: bytes) -> Iterator[Outcome]:
    if len(parts.columns) != 5:
        _refuse("the number of columns")
    shape_of = _spread(parts.columns[0], parts.count)
    regular = sum(1 for number in shape_of if number != RAW_SHAPE)
    node_of, person_of, facility_of, after_of = (_spread(column, regular) for column in parts.columns[1:])
    base = parts.times[0] if parts.times else 0
    hlcs = _hlcs(parts, regular, base)
    ids = _record_ids(parts, regular)
    scopes = _scopes(parts, ids)
    named = dict(parts.supersedes)
    readers = [_body_reader(parts, number) for number in range(len(parts.shapes))]
    regular_rows = [row for row, number in enumerate(shape_of) if number != RAW_SHAPE]
    by_row = dict(zip(regular_rows, ids, strict=True))  # all of them: a reference may point at a later row too
    raws = iter(parts.raws)
    at = 0
    for row, number in enumerate(shape_of):
        if number == RAW_SHAPE:
            yield _outcome(changes.parse, next(raws))
            continue
        record = ids[at]
        patient, salt = scopes[at]
        kind, read = _pick(readers, number, "a shape")
        yield _outcome(
            changes.rebuild,
            (
                _pick(parts.afters, after_of[at], "a time") + base,
                _pick(parts.facilities, facility_of[at], "a facility"),
                hlcs[at],
                kind,
                _pick(parts.nodes, node_of[at], "a node") or own,
                patient,
                _pick(parts.persons, person_of[at], "a person"),
                record,
                salt,
                named.get(row, {}),
                read(row, by_row),
            ),
        )
        at += 1


def _outcome(make: Callable[[Any], Change], argument: Any) -> Outcome:
    try:
        return make(argument)
    except HealthSyncError as error:
        return error
    except (ValueError, TypeError, OverflowError) as error:
        return Malformed(f"a change cannot be rebuilt ({type(error).__name__})")


def _hlcs(parts: _Block, count: int, base: int) -> list[int]:
    deltas, counters = parts.hlcs
    if len(deltas) != count:
        _refuse("the clock column's length")
    result, last = [], base
    for delta, counter in zip(deltas, _spread(counters, count), strict=True):
        last += delta
        result.append(last << 16 | (counter & 0xFFFF))
    return result


def _record_ids(parts: _Block, count: int) -> list[bytes]:
    if len(parts.times) != count or len(parts.tails) != count * TAIL_BYTES:
        _refuse("the record column's length")
    ids, last = [], 0
    for row, delta in enumerate(parts.times):
        last += delta
        ids.append(last.to_bytes(TIME_BYTES, "big") + parts.tails[row * TAIL_BYTES : (row + 1) * TAIL_BYTES])
    return ids


def _scopes(parts: _Block, ids: list[bytes]) -> list[tuple[bytes, bytes]]:
    numbers, named = parts.patients
    fresh, salts = parts.salts
    if len(numbers) != len(ids):
        _refuse("the patient column's length")
    seen: list[bytes] = []
    salt_of: dict[bytes, bytes] = {}
    result = []
    named_at = salt_at = 0
    for record, number, is_fresh in zip(ids, numbers, _spread(fresh, len(ids)), strict=True):
        if number <= 1:
            patient = record
            if number == 1:
                patient = named[named_at : named_at + ID_BYTES]
                named_at += ID_BYTES
            seen.append(patient)
        else:
            patient = _pick(seen, len(seen) + 1 - number, "a patient")
        if is_fresh:
            salt_of[patient] = salts[salt_at : salt_at + ID_BYTES]
            salt_at += ID_BYTES
        result.append((patient, salt_of[patient]))
    return result


def _body_reader(parts: _Block, number: int) -> tuple[str, Callable[[int, dict[int, bytes]], dict[str, Value]]]:
    shape = parts.shapes[number]
    columns = parts.bodies[number]
    if not shape or not isinstance(shape[0], int) or len(columns) != len(shape) - 1:
        _refuse("a shape")
    kind = _pick(parts.kinds, shape[0], "a kind")
    names = [str(name) for name in shape[1:]]
    if any(len(name) > changes.MAX_FIELD_BYTES for name in names):
        _refuse("a field's name")
    readers = [_column_reader(*column) for column in columns]

    def read(row: int, by_row: dict[int, bytes]) -> dict[str, Value]:
        writes: dict[str, Value] = {}
        for name, reader in zip(names, readers, strict=True):
            value = reader(row, by_row)
            if name.endswith(ELEMENTS):
                if type(value) is not dict or len(value) > changes.MAX_WRITES:
                    _refuse("the elements of a family")
                for key, element in value.items():
                    writes[name + key] = {"present": True} if element == 0 and type(element) is int else element
            else:
                writes[name] = value
        return writes

    return kind, read


def _column_reader(encoding: int, values: list[Any]) -> Callable[[int, dict[int, bytes]], Value]:
    following = iter(values)
    if encoding == PLAIN:
        return lambda _row, _by_row: next(following)
    if encoding == REFERENCES:

        def reference(row: int, by_row: dict[int, bytes]) -> Value:
            value = next(following)
            return by_row[row - value] if type(value) is int else value

        return reference
    if not 1 <= encoding <= MAX_PLACES:
        _refuse("a column's encoding")

    def decimal(_row: int, _by_row: dict[int, bytes]) -> Value:
        value = next(following)
        if value is not None and type(value) is not int:  # % on a text would format it, to any width
            _refuse("a decimal")
        return None if value is None else _unscaled(value, encoding)

    return decimal
