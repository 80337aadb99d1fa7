"""Passwords, codes and waits by themselves: what counts, what does not, and how much of the work is done at once."""

from __future__ import annotations

import os
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub_server.people import Person, Role
from hub_server.sign_in import passwords, second_factor
from hub_server.sign_in.passwords import SALT_BYTES, Cost, Turns
from hub_server.sign_in.refusals import SignInBusy
from hub_server.sign_in.tries import ADDRESS, LOGIN, MAX_WAIT_MS, SECOND_FACTOR, Limit
from sync_protocol.change import PersonId
from sync_protocol.errors import BadSignature, InvalidValue
from tests.costs import CHEAP
from tests.hub.bare_node import NOW_MS
from tests.hub.hub_world import PATIENCE_S
from tests.hub.paged_hub import code_of, hashed

RAO = Person(PersonId(bytes(16)), "dr.rao@mysuru", "Dr. Sunita Rao", Role.DOCTOR, registration_number="K-1")
SECRET = b"12345678901234567890"  # of RFC 6238, Appendix B


# -- passwords ---------------------------------------------------------------------------------------------------------


REAL = passwords.NEW_COST  # as this module finds it; the tests make theirs cheap


def test_a_new_password_costs_what_rfc_9106_recommends_where_memory_is_scarce() -> None:
    assert (REAL.memory_kib, REAL.iterations, REAL.lanes) == (64 * 1024, 3, 4)


def test_a_password_is_known_again_however_its_letters_are_composed() -> None:
    made = passwords.make_password("café नदी दीपक", RAO, os.urandom(64))
    assert made.cost == passwords.NEW_COST
    assert len(made.salt) == SALT_BYTES
    assert "café" not in repr(made)
    assert passwords.matches("cafe\u0301 नदी दीपक", made)
    for other in ("cafe नदी दीपक", "café नदी दीपक ", "", "CAFÉ नदी दीपक"):
        assert not passwords.matches(other, made)


@pytest.mark.parametrize(
    "password",
    [
        "",
        "seven77",
        "12345678901",
        "१२३४५६७८९०१",
        "aaaaaaaaaaaa",
        "abababababab",
        "DR.RAO@mysuru",
        "dr. sunita RAO",
        "x" * 1025,
        "river \ud800 song lamp",
        "नदी " * 200,
    ],
)
def test_a_weak_password_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        passwords.check(password, RAO)
    assert (caught.value.code, caught.value.field) == ("E_WEAK_PASSWORD", "password")
    assert not password or password not in caught.value.message


@pytest.mark.parametrize("password", ["river lamp", "123456789012", "नदी दीपक पत्थर", "x1y2z3w4", "a" * 500 + "bcd"])
def test_a_password_of_ones_own_choice_is_taken(password: str) -> None:
    passwords.check(password, RAO)


@pytest.mark.parametrize(
    "cost",
    [
        Cost(memory_kib=1 << 31, iterations=1, lanes=1),
        Cost(memory_kib=64, iterations=10_000, lanes=1),
        Cost(memory_kib=64, iterations=1, lanes=64),
        Cost(memory_kib=4, iterations=1, lanes=1),
        Cost(memory_kib=64, iterations=0, lanes=1),
        Cost(memory_kib=64, iterations=1, lanes=0),
    ],
)
def test_a_cost_that_no_program_wrote_takes_no_memory_and_no_time(cost: Cost) -> None:
    with pytest.raises(BadSignature) as caught:
        passwords.matches("river lamp", replace(hashed("river lamp"), cost=cost))
    assert caught.value.code == "E_STORED_ALTERED"


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(BadSignature):
        passwords.matches("river lamp", replace(hashed("river lamp"), salt=b"short"))


def test_nobodys_password_takes_the_work_of_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that how long an answer takes does not tell who has a login."""
    done: list[Cost] = []
    derive = passwords._derive

    def watched(password: bytes, salt: bytes, cost: Cost) -> bytes:
        done.append(cost)
        return derive(password, salt, CHEAP)

    monkeypatch.setattr(passwords, "_derive", watched)
    assert not passwords.matches("river lamp", None)
    assert not passwords.matches("", None)
    assert done == [passwords.NEW_COST] * 2


def test_several_who_sign_in_at_the_same_moment_are_all_served() -> None:
    made, done = passwords.make_password("river lamp", RAO, os.urandom(64)), []

    def come() -> None:
        done.append(passwords.matches("river lamp", made))

    threads = [threading.Thread(target=come, daemon=True) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(PATIENCE_S)
    assert done == [True] * 4


def test_a_one_time_password_has_eighty_bits_and_can_be_read_out() -> None:
    assert passwords.one_time_password(bytes(32)) == "aaaa-aaaa-aaaa-aaaa"
    made = {passwords.one_time_password(os.urandom(32)) for _ in range(50)}
    assert len(made) == 50
    for one in made:
        passwords.check(one, RAO)


def test_few_hash_at_once_some_wait_and_the_others_come_again() -> None:
    turns, ended = Turns(at_once=2, waiting=1, wait_s=PATIENCE_S), threading.Event()
    working, refused = threading.Semaphore(0), threading.Semaphore(0)
    done: list[bool] = []

    def come() -> None:
        try:
            with turns.turn():
                working.release()
                assert ended.wait(PATIENCE_S)
            done.append(True)
        except SignInBusy:
            refused.release()

    threads = [threading.Thread(target=come) for _ in range(23)]
    for one in threads:
        one.start()
    for _ in range(2):
        assert working.acquire(timeout=PATIENCE_S)
    for _ in range(20):
        assert refused.acquire(timeout=PATIENCE_S)
    assert not working.acquire(blocking=False)
    ended.set()
    for one in threads:
        one.join(PATIENCE_S)
    assert len(done) == 3


def test_who_has_waited_long_enough_comes_again() -> None:
    turns = Turns(at_once=1, waiting=1, wait_s=0.0)
    with turns.turn(), pytest.raises(SignInBusy) as caught, turns.turn():
        raise AssertionError("nobody else works meanwhile")
    assert caught.value.retry_after_s > 0
    with turns.turn():
        pass


# -- codes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(second: int, code: str) -> None:
    assert second_factor.step_of(SECRET, code, 0, second * 1000) == second // 30


@settings(max_examples=60)
@given(st.integers(2, 1 << 33), st.integers(-4, 4), st.integers(-3, 3))
def test_a_code_counts_in_its_half_minute_and_the_ones_beside_it_and_never_behind_the_last(
    step: int, aside: int, last: int
) -> None:
    code = code_of(SECRET, max(step + aside, 0))
    found = second_factor.step_of(SECRET, code, step + last, step * 30_000 + 29_999)
    if abs(aside) <= second_factor.STEPS_ASIDE and aside > last:
        assert found is not None
    if found is not None:
        assert found > step + last
        assert abs(found - step) <= second_factor.STEPS_ASIDE
        assert code_of(SECRET, found) == code


@pytest.mark.parametrize(
    "code", ["", "12345", "1234567", "12345a", "²²²²²²", "½½½½½½", "1" * 10_000, "\x00" * 6, "------"]
)
def test_what_is_no_code_is_none(code: str) -> None:
    assert second_factor.step_of(SECRET, code, 0, NOW_MS) is None


def test_a_code_may_be_typed_as_it_is_shown_or_in_any_digits() -> None:
    step = NOW_MS // 30_000
    code = code_of(SECRET, step)
    for typed in (f"{code[:3]} {code[3:]}", f" {code}\n", code.translate({48 + at: 0x0BE6 + at for at in range(10)})):
        assert second_factor.step_of(SECRET, typed, 0, NOW_MS) == step


def test_the_letters_and_the_address_hold_the_same_secret() -> None:
    factor = second_factor.new_factor(SECRET, "dr.rao@mysuru")
    letters = factor.letters.replace(" ", "")
    assert f"secret={letters}&" in factor.uri + "&"
    assert factor.uri.startswith("otpauth://totp/Health%20Sync:dr.rao%40mysuru?")
    assert "issuer=Health%20Sync" in factor.uri
    assert letters not in repr(factor)


# -- waits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [LOGIN, ADDRESS, SECOND_FACTOR])
def test_waits_begin_after_a_few_tries_never_shrink_and_end_at_a_quarter_of_an_hour(limit: Limit) -> None:
    waits = [limit.wait_ms(tries) for tries in range(200)]
    assert waits == sorted(waits)
    assert waits[: limit.free + 3] == [0] * (limit.free + 1) + [1_000, 2_000]
    assert waits[limit.most] == max(waits) == MAX_WAIT_MS
