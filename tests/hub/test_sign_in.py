"""Signing in without pages: what stands in the database, what many at once can do, what a limit forgets, what ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub_server import audit, sign_in
from hub_server.ledger import Ledger
from hub_server.people import Person
from hub_server.rotation import rewrap, rotate
from hub_server.sign_in import SignIn, credentials, desk, passwords, sessions, tries
from hub_server.sign_in.credentials import Standing
from hub_server.sign_in.passwords import Turns
from hub_server.sign_in.refusals import Refused, SignInBusy, TryLater
from hub_server.sign_in.sessions import IDLE_MS, MAX_SESSIONS, SESSION_MS, SKEW_MS
from hub_server.sign_in.tries import ADDRESS, LOGIN, MAX_WAIT_MS, Limit, Subject
from hub_server.vault import HubIdentity, Vault
from sync_protocol.errors import BadSignature, HealthSyncError, NeedsPerson
from tests.hub.bare_node import NOW_MS
from tests.hub.hub_world import PATIENCE_S, HubWorld, wait_until
from tests.hub.migrating import bring
from tests.hub.paged_hub import PASSWORD, PagedHub, hashed

OWN = "another quiet river song"
AT_ONCE = 12


@pytest.fixture(scope="module")
def shared(module_database_url: str, module_folder: Path) -> PagedHub:
    return PagedHub(HubWorld.make(module_database_url, module_folder / "keys"))


@pytest.fixture
def hub(shared: PagedHub) -> PagedHub:
    shared.empty()
    return shared


@pytest.fixture
def signing(hub: PagedHub) -> SignIn:
    return SignIn(hub.world.database, hub.world.vault)


def begin(hub: PagedHub, signing: SignIn, login: str = "dr.rao", password: str = PASSWORD) -> sign_in.Pending:
    return signing.begin(login, password, "192.0.2.1", hub.world.now_ms, os.urandom(64))


def open_session(hub: PagedHub, person: Person) -> str:
    with hub.world.database.transaction() as connection:
        return sessions.open_session(connection, person.id, hub.world.now_ms, os.urandom(32))


def is_open(hub: PagedHub, token: str, now_ms: int | None = None) -> bool:
    with hub.world.database.transaction() as connection:
        at_ms = hub.world.now_ms if now_ms is None else now_ms
        return sign_in.session_of(connection, token, at_ms, touch=False) is not None


def at_once(action: Callable[[], object], count: int = AT_ONCE) -> list[str]:
    """Everybody does it at the same moment; what came of each: ``done`` or an error's code."""
    barrier, verdicts = threading.Barrier(count), []

    def come() -> None:
        barrier.wait(PATIENCE_S)
        try:
            action()
            verdicts.append("done")
        except HealthSyncError as error:
            verdicts.append(error.code)

    threads = [threading.Thread(target=come, daemon=True) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(PATIENCE_S)
    assert len(verdicts) == count
    return verdicts


# -- what stands in the database ---------------------------------------------------------------------------------------


def test_no_token_no_password_and_no_secret_stands_in_the_database(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao")
    pending = begin(hub, signing)
    token = signing.finish(pending.token, rao.code(), hub.world.now_ms, os.urandom(64))
    begin(hub, signing)
    with hub.world.database.transaction() as connection:
        stored = repr([connection.execute(f"SELECT * FROM {one}").fetchall() for one in ("credential", "session")])
        stored += repr(connection.execute("SELECT * FROM pending_sign_in").fetchall())
        stored += repr(connection.execute("SELECT * FROM sign_in_try").fetchall())
        hashes = connection.execute("SELECT password, totp FROM credential").fetchall()
    for secret in (token, pending.token, PASSWORD, repr(rao.secret)[2:-1], "dr.rao", "192.0.2.1"):
        assert secret not in stored
    assert all(len(wrapped) > 32 for row in hashes for wrapped in row)
    assert token not in repr(pending) + repr(signing)


def test_a_row_in_anothers_place_opens_nothing(hub: PagedHub, signing: SignIn) -> None:
    """Who can write into the database puts their own password, or second factor, into somebody else's row."""
    mallory, rao = hub.add("mallory", password=OWN), hub.add("dr.rao")
    with hub.world.database.transaction() as connection:
        connection.execute(
            "UPDATE credential c SET password = m.password, salt = m.salt, totp = m.totp FROM credential m"
            " WHERE c.person = %s AND m.person = %s",
            (rao.person.id, mallory.person.id),
        )
    for password in (OWN, PASSWORD):
        with pytest.raises(BadSignature) as caught:
            begin(hub, signing, password=password)
        assert caught.value.code == "E_STORED_ALTERED"
    with hub.world.database.transaction() as connection:
        connection.execute("UPDATE credential SET password = totp WHERE person = %s", (mallory.person.id,))
        with pytest.raises(BadSignature):
            credentials.known(connection, hub.world.vault, mallory.person.id)


def test_what_people_sign_in_with_is_wrapped_anew_under_a_new_key(hub: PagedHub, tmp_path: Path) -> None:
    rao = hub.add("dr.rao")
    with hub.world.database.transaction() as connection:
        sign_in.new_totp(connection, hub.world.vault, rao.person, os.urandom(20))
    rotated = rotate(hub.world.folder, "kek", NOW_MS + 1)
    with hub.world.database.transaction() as connection:
        assert rewrap(connection, Vault(rotated)) == 3
    newest_alone = Vault(only_newest(rotated))
    with hub.world.database.transaction() as connection:
        found = credentials.known(connection, newest_alone, rao.person.id)
        assert found is not None
        assert credentials.take_code(connection, newest_alone, rao.person.id, rao.code(), hub.world.now_ms)
    hub.world.vault = hub.world.store.vault = Vault(rotated)


def only_newest(identity: HubIdentity) -> HubIdentity:
    return HubIdentity(
        identity.environment,
        identity.hub,
        identity.root,
        identity.signing,
        identity.ingest,
        identity.recovery,
        identity.kek,
        identity.tag_key,
    )


def test_what_is_replaced_stands_in_the_ledger_by_login_and_never_what_it_is(hub: PagedHub, tmp_path: Path) -> None:
    identity = hub.world.vault.identity
    ledger = Ledger(tmp_path / "ledger" / "ledger.txt", identity.signing, identity.environment)
    rao = hub.add("dr.rao", factor=False).person
    vault = Vault(identity, ledger=ledger)
    with hub.world.database.transaction() as connection:
        sign_in.set_password(connection, vault, rao, hashed(OWN), "operator x", NOW_MS)
        sign_in.give_totp(connection, vault, rao, "operator x", NOW_MS + 1, os.urandom(20))
        sign_in.forget_totp(connection, vault, rao, "operator x", NOW_MS + 2)
    said = [(line.kind, line.body) for line in ledger.lines()]
    assert said == [("password_set", {"login": "dr.rao"})] + [("second_factor_set", {"login": "dr.rao"})] * 2


def test_a_hub_put_back_forgets_what_was_replaced_and_nothing_newer(hub: PagedHub) -> None:
    rao = hub.add("dr.rao").person
    hub.add("dr.nair")

    def standing() -> Standing:
        with hub.world.database.transaction() as connection:
            return sign_in.standings(connection, hub.world.now_ms)[rao.id]

    for at_ms, kept in ((NOW_MS - 1, True), (NOW_MS, True), (NOW_MS + 1, False)):
        with hub.world.database.transaction() as connection:
            sign_in.forget_password_before(connection, "dr.rao", at_ms)
            sign_in.forget_totp_before(connection, "dr.rao", at_ms)
        assert (standing().has_password, standing().has_second_factor) == (kept, kept)
    with hub.world.database.transaction() as connection:
        others = sign_in.standings(connection, hub.world.now_ms)[hub.people["dr.nair"].person.id]
    assert (others.has_password, others.has_second_factor) == (True, True)


# -- many at once ------------------------------------------------------------------------------------------------------


def test_one_code_given_many_times_at_once_opens_one_session(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao")
    pendings = [begin(hub, signing).token for _ in range(desk.MAX_PENDING)]
    code, given = rao.code(), iter(pendings * 3)
    verdicts = at_once(lambda: signing.finish(next(given), code, hub.world.now_ms, os.urandom(64)))
    assert verdicts.count("done") == 1
    with hub.world.database.transaction() as connection:
        assert len(sign_in.sessions_of(connection, rao.person.id, hub.world.now_ms)) == 1
        assert audit.verify(connection).broken_at is None


def test_many_guesses_at_once_gain_nothing(hub: PagedHub, signing: SignIn) -> None:
    """A try is counted before it is made: of twelve at one moment no more are looked at than one after another."""
    hub.add("dr.rao")
    pending = begin(hub, signing).token
    verdicts = at_once(lambda: signing.finish(pending, "000000", hub.world.now_ms, os.urandom(64)))
    assert verdicts.count("E_WRONG_CODE") + verdicts.count("E_BEGIN_AGAIN") + verdicts.count("E_TRY_LATER") == AT_ONCE
    assert verdicts.count("E_WRONG_CODE") <= credentials.MAX_CODES
    hub.empty()
    hub.add("dr.rao")
    subject = tries.of_login(hub.world.vault, "dr.rao")

    def guess() -> None:
        with hub.world.database.transaction() as connection:
            tries.count(connection, [subject], hub.world.now_ms)

    assert at_once(guess).count("done") == LOGIN.free + 1  # the sixth is made, and says how long the next one waits


def test_two_who_change_one_password_at_once_do_not_both(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao").person
    tokens = iter([open_session(hub, rao) for _ in range(2)])
    numbers = iter(range(2))
    verdicts = at_once(
        lambda: signing.change_password(
            next(tokens), PASSWORD, f"{OWN} {next(numbers)}", hub.world.now_ms + 1, os.urandom(64)
        ),
        2,
    )
    assert sorted(verdicts) == ["E_SIGNED_OUT", "done"]


def test_whose_session_ends_while_the_old_password_is_looked_at_is_signed_out_and_not_told_that_it_is_wrong(
    hub: PagedHub, signing: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = open_session(hub, hub.add("dr.rao").person)

    def meanwhile(_password: str, _hashed: passwords.Hashed | None) -> bool:
        with hub.world.database.transaction() as connection:
            return not sign_in.sign_out(connection, token, hub.world.now_ms)

    monkeypatch.setattr(passwords, "matches", meanwhile)
    with pytest.raises(Refused) as caught:
        signing.change_password(token, PASSWORD, OWN, hub.world.now_ms, os.urandom(64))
    assert caught.value.code == "E_SIGNED_OUT"


def test_a_try_that_waited_until_all_was_forgiven_is_the_first(hub: PagedHub) -> None:
    """The row that it was about to change is gone."""
    subjects = [tries.of_login(hub.world.vault, "dr.rao"), tries.of_address(hub.world.vault, "192.0.2.1")]

    def guess() -> None:
        with hub.world.database.transaction() as connection:
            tries.count(connection, subjects, hub.world.now_ms)

    for _ in range(LOGIN.free):
        guess()
    with ThreadPoolExecutor(1) as pool:
        with hub.world.database.transaction() as first:
            first.execute("SELECT FROM sign_in_try ORDER BY subject FOR UPDATE")
            waiting = pool.submit(guess)
            wait_until(hub.world.somebody_waits)
            for one in subjects:
                tries.forget(first, one)
        waiting.result(PATIENCE_S)
    for _ in range(LOGIN.free):
        guess()
    with pytest.raises(TryLater):
        guess()


def test_who_gets_in_waits_for_the_same_tries_in_the_same_order_as_who_tries(
    hub: PagedHub, signing: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else two from one address, one with the right password already and one that begins, wait for each other."""
    hub.add("dr.rao")
    login = tries.of_login(hub.world.vault, "dr.rao")
    addresses = [f"192.0.2.{number}" for number in range(64)]
    address = next(one for one in addresses if tries.of_address(hub.world.vault, one).name < login.name)
    holding = "SELECT FROM sign_in_try WHERE subject = %s FOR UPDATE"
    with hub.world.database.transaction() as other, ThreadPoolExecutor(1) as pool:
        matches = passwords.matches

        def meanwhile(password: str, hashed: passwords.Hashed | None) -> bool:
            other.execute(holding, (tries.of_address(hub.world.vault, address).name,))
            return matches(password, hashed)

        monkeypatch.setattr(passwords, "matches", meanwhile)
        begun = pool.submit(signing.begin, "dr.rao", PASSWORD, address, hub.world.now_ms, os.urandom(64))
        wait_until(hub.world.somebody_waits)
        other.execute(holding, (login.name,))
        other.commit()
        assert begun.result(PATIENCE_S)


def test_two_who_make_room_at_once_do_not_wait_for_each_other(hub: PagedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for those whose tries are just being counted: room is made elsewhere."""
    monkeypatch.setattr(tries, "MAX_SUBJECTS", 2)
    old, held = Subject(os.urandom(32), ADDRESS), Subject(os.urandom(32), LOGIN)
    count(hub, held, NOW_MS - LOGIN.forget_ms)
    count(hub, old, NOW_MS)
    with hub.world.database.transaction() as other:
        other.execute("SELECT FROM sign_in_try WHERE subject = %s FOR UPDATE", (held.name,))
        with hub.world.database.transaction() as connection:
            connection.execute("SET LOCAL lock_timeout = '1s'")
            tries.count(connection, [Subject(os.urandom(32), LOGIN)], NOW_MS)
            stored = {bytes(row[0]) for row in connection.execute("SELECT subject FROM sign_in_try")}
            assert held.name in stored and old.name not in stored
            assert tries.drop_forgotten(connection, NOW_MS + 9 * LOGIN.forget_ms) == 1


# -- sessions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "=" * 43, "x" * 10_000, "é" * 43, "\x00" * 43, "x" * 42 + "\n"])
def test_what_is_no_token_signs_nobody_in(hub: PagedHub, token: str) -> None:
    hub.add("dr.rao")
    assert not is_open(hub, token)
    with hub.world.database.transaction() as connection:
        assert not sign_in.sign_out(connection, token, hub.world.now_ms)


def test_a_session_lives_within_its_bounds_and_not_where_the_clock_was_put_back(hub: PagedHub) -> None:
    token = open_session(hub, hub.add("dr.rao").person)
    for at_ms, alive in (
        (NOW_MS, True),
        (NOW_MS + IDLE_MS, True),
        (NOW_MS + IDLE_MS + 1, False),
        (NOW_MS - SKEW_MS, True),
        (NOW_MS - SKEW_MS - 1, False),
    ):
        assert is_open(hub, token, at_ms) is alive, at_ms - NOW_MS
    with hub.world.database.transaction() as connection:
        connection.execute("UPDATE session SET used_ms = %s", (NOW_MS + SESSION_MS,))
    assert is_open(hub, token, NOW_MS + SESSION_MS)
    assert not is_open(hub, token, NOW_MS + SESSION_MS + 1)


def test_use_is_written_down_once_a_minute_and_not_by_what_nobody_did(hub: PagedHub) -> None:
    token = open_session(hub, hub.add("dr.rao").person)

    def used_ms(at_ms: int, *, touch: bool) -> int:
        with hub.world.database.transaction() as connection:
            sign_in.session_of(connection, token, at_ms, touch=touch)
            row = connection.execute("SELECT used_ms - %s FROM session", (NOW_MS,)).fetchone()
        assert row is not None
        return int(row[0])

    assert used_ms(NOW_MS + sessions.TOUCH_MS - 1, touch=True) == 0
    assert used_ms(NOW_MS + 3 * sessions.TOUCH_MS, touch=False) == 0
    assert used_ms(NOW_MS + sessions.TOUCH_MS, touch=True) == sessions.TOUCH_MS


def test_a_person_has_eight_sessions_and_one_more_ends_the_one_used_longest_ago(hub: PagedHub) -> None:
    rao, nair = hub.add("dr.rao").person, hub.add("dr.nair").person
    others = open_session(hub, nair)
    tokens = []
    for _ in range(MAX_SESSIONS + 2):
        hub.world.now_ms += 1
        tokens.append(open_session(hub, rao))
    assert [is_open(hub, one) for one in tokens] == [False] * 2 + [True] * MAX_SESSIONS
    assert is_open(hub, others)


def test_each_sessions_secret_for_forms_is_its_own(hub: PagedHub) -> None:
    rao = hub.add("dr.rao").person
    first, second = (open_session(hub, rao) for _ in range(2))
    with hub.world.database.transaction() as connection:
        one, other = (sign_in.session_of(connection, token, hub.world.now_ms) for token in (first, second))
    assert one is not None
    assert other is not None
    assert one.holds_csrf(one.csrf)
    for wrong in (other.csrf, "", one.csrf[:-1], one.csrf + "0", first, "é" * 500):
        assert not one.holds_csrf(wrong)
    assert one.csrf not in repr(one)


def test_what_is_over_is_dropped_and_what_lives_stays(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao").person
    hub.add("dr.new", one_time=True, factor=False)
    open_session(hub, rao)
    begin(hub, signing)
    first = begin(hub, signing, "dr.new")
    with pytest.raises(Refused):
        begin(hub, signing, "nobody")
    hub.world.now_ms += IDLE_MS + 1
    token = open_session(hub, rao)
    with hub.world.database.transaction() as connection:
        assert sign_in.drop_stale(connection, hub.world.now_ms) == 1
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM session), (SELECT count(*) FROM pending_sign_in)"
        ).fetchone()
    assert rows == (1, 1), "the first sign-in has half an hour"
    assert is_open(hub, token)
    assert signing.setting_up(first.token, hub.world.now_ms).person.login == "dr.new"
    hub.world.now_ms += 2 * 3_600_000
    with hub.world.database.transaction() as connection:
        sign_in.drop_stale(connection, hub.world.now_ms)
        counts = "SELECT (SELECT count(*) FROM pending_sign_in), (SELECT count(*) FROM sign_in_try)"
        assert connection.execute(counts).fetchone() == (0, 0)


# -- waits -------------------------------------------------------------------------------------------------------------


def count(hub: PagedHub, subject: Subject, at_ms: int) -> int:
    """Make a try; how many milliseconds the next one waits, or minus those that this one had to wait."""
    try:
        with hub.world.database.transaction() as connection:
            tries.count(connection, [subject], at_ms)
            row = connection.execute("SELECT again_ms FROM sign_in_try WHERE subject = %s", (subject.name,)).fetchone()
        assert row is not None
        return max(int(row[0]) - at_ms, 0)
    except TryLater as error:
        return -error.retry_after_s * 1000


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 2 * LOGIN.forget_ms), max_size=25))
def test_tries_are_forgotten_one_by_one_as_if_each_was_remembered_by_itself(hub: PagedHub, gaps: list[int]) -> None:
    """The one time that a row holds says as much as a list of tries would: it drains by one try an hour."""
    subject, at_ms, debt = Subject(os.urandom(32), LOGIN), NOW_MS, 0.0
    again_ms = 0
    for gap in gaps:
        at_ms += gap
        debt = max(debt - gap / LOGIN.forget_ms, 0.0)
        found = count(hub, subject, at_ms)
        if again_ms > at_ms:
            assert found < 0
            continue
        debt = min(debt, float(LOGIN.most)) + 1
        again_ms = at_ms + found
        assert found == LOGIN.wait_ms(-int(-debt // 1)) or abs(debt - round(debt)) < 1e-6


def test_the_right_password_takes_its_own_try_back_and_no_other(hub: PagedHub) -> None:
    subject = Subject(os.urandom(32), Limit(b"x", 3, 3_600_000))
    for _ in range(3):
        assert count(hub, subject, NOW_MS) == 0
    for _ in range(20):
        assert count(hub, subject, NOW_MS) == tries.FIRST_WAIT_MS
        with hub.world.database.transaction() as connection:
            tries.take_back(connection, subject)


def test_a_wait_that_was_never_given_is_not_kept(hub: PagedHub) -> None:
    """This machine's clock was years ahead for a while: nobody is locked out for years."""
    subject = Subject(os.urandom(32), LOGIN)
    for _ in range(LOGIN.most):
        count(hub, subject, NOW_MS + 10**11)
    assert count(hub, subject, NOW_MS) >= 0
    assert 0 <= -count(hub, subject, NOW_MS) <= MAX_WAIT_MS


def test_addresses_are_counted_by_what_one_person_has(hub: PagedHub) -> None:
    vault = hub.world.vault

    def name(text: str) -> bytes:
        return tries.of_address(vault, text).name

    assert name("2001:db8::1") == name("2001:db8::ffff:1") != name("2001:db8:0:1::1")
    assert name("::ffff:192.0.2.1") == name("192.0.2.1") != name("192.0.2.2")
    assert name("x" * 10_000) == name("x" * 100)
    assert name("") != name("\ud800")
    assert name("192.0.2.1") != tries.of_login(vault, "192.0.2.1").name


def test_what_is_remembered_of_tries_is_bounded(hub: PagedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "MAX_SUBJECTS", 20)
    last = Subject(os.urandom(32), ADDRESS)
    for _ in range(3):
        count(hub, last, NOW_MS)
    for _ in range(60):
        count(hub, Subject(os.urandom(32), ADDRESS), NOW_MS)
    with hub.world.database.transaction() as connection:
        found = [bytes(row[0]) for row in connection.execute("SELECT subject FROM sign_in_try").fetchall()]
    assert len(found) == 20
    assert last.name in found, "whoever tried most is remembered longest"


def test_refusals_do_not_fill_the_audit(hub: PagedHub, signing: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "MAX_NOTED", 3)
    hub.add("dr.rao")
    for _ in range(5):
        with pytest.raises(Refused):
            begin(hub, signing, password=OWN)
    assert hub.noted("refuse sign-in") == 3
    hub.world.now_ms += 3_600_000
    with pytest.raises(Refused):
        begin(hub, signing, password=OWN)
    assert hub.noted("refuse sign-in") == 4


# -- the steps ---------------------------------------------------------------------------------------------------------


def test_the_second_factor_given_again_makes_signing_possible_for_five_minutes(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao")
    token = open_session(hub, rao.person)

    def is_fresh() -> bool:
        with hub.world.database.transaction() as connection:
            found = sign_in.session_of(connection, token, hub.world.now_ms)
        return found is not None and found.is_fresh(hub.world.now_ms)

    assert is_fresh()
    hub.world.now_ms += sessions.FRESH_MS + 1
    assert not is_fresh()
    with pytest.raises(Refused):
        signing.again(token, "000000", hub.world.now_ms)
    assert not is_fresh()
    code = rao.code()
    signing.again(token, code, hub.world.now_ms)
    assert is_fresh()
    with pytest.raises(Refused) as caught:
        signing.again(token, code, hub.world.now_ms)
    assert caught.value.code == "E_WRONG_CODE"
    with pytest.raises(Refused) as caught:
        signing.again("x" * 43, rao.code(), hub.world.now_ms)
    assert caught.value.code == "E_SIGNED_OUT"


def test_where_there_is_no_turn_nothing_was_tried_and_who_may_not_try_takes_none(hub: PagedHub) -> None:
    turns = Turns(at_once=1, waiting=0, wait_s=0.0)
    signing = SignIn(hub.world.database, hub.world.vault, turns=turns)
    rao = hub.add("dr.rao")
    token = open_session(hub, rao.person)
    with turns.turn():
        for _ in range(LOGIN.most):
            with pytest.raises(SignInBusy):
                begin(hub, signing)
            with pytest.raises(SignInBusy):
                signing.change_password(token, PASSWORD, OWN, hub.world.now_ms, os.urandom(64))
    assert begin(hub, signing).token
    for _ in range(LOGIN.free + 1):
        with pytest.raises(Refused):
            begin(hub, signing, "nobody")
    with turns.turn(), pytest.raises(TryLater):
        begin(hub, signing, "nobody")


def test_a_person_has_four_sign_ins_under_way(hub: PagedHub, signing: SignIn) -> None:
    rao = hub.add("dr.rao")
    tokens = []
    for _ in range(desk.MAX_PENDING + 1):
        hub.world.now_ms += 1
        tokens.append(begin(hub, signing).token)
    with pytest.raises(Refused) as caught:
        signing.finish(tokens[0], rao.code(), hub.world.now_ms, os.urandom(64))
    assert caught.value.code == "E_BEGIN_AGAIN"
    assert is_open(hub, signing.finish(tokens[1], rao.code(), hub.world.now_ms, os.urandom(64)))


def test_a_new_second_factor_is_confirmed_once_and_only_where_one_waits(hub: PagedHub) -> None:
    rao = hub.add("dr.rao").person
    with hub.world.database.transaction() as connection, pytest.raises(NeedsPerson) as caught:
        sign_in.confirm_totp(connection, hub.world.vault, rao, "000000", rao.actor, hub.world.now_ms)
    assert caught.value.code == "E_NO_NEW_FACTOR"


def test_each_step_is_counted_and_logged_under_its_verdict(hub: PagedHub) -> None:
    verdicts: list[str] = []
    signing = SignIn(hub.world.database, hub.world.vault, verdicts.append)
    rao = hub.add("dr.rao")
    with structlog.testing.capture_logs() as logged:
        token = signing.finish(begin(hub, signing).token, rao.code(), hub.world.now_ms, os.urandom(64))
        signing.again(token, rao.code(), hub.world.now_ms)
        for _ in range(7):
            with pytest.raises(HealthSyncError):
                begin(hub, signing, password=OWN)
        with pytest.raises(HealthSyncError):
            signing.change_password(token, OWN, OWN + "s", hub.world.now_ms, os.urandom(64))
    assert verdicts == ["right", "signed_in", "again", *["refused"] * 6, "too_soon", "refused"]
    assert [one["verdict"] for one in logged] == verdicts
    assert {key for one in logged for key in one} == {"event", "verdict", "log_level"}


# -- the migrations ----------------------------------------------------------------------------------------------------


def test_the_tables_come_to_a_hub_with_data_and_go_again(database_url: str, tmp_path: Path) -> None:
    made = PagedHub(HubWorld.make(database_url, tmp_path / "keys"))
    made.refer()
    made.add("dr.rao")
    made.add("dr.new", one_time=True, factor=False)
    begin(made, SignIn(made.world.database, made.world.vault), "dr.new")
    made.world.database.close()

    def counts(*names: str) -> list[int]:
        with psycopg.connect(database_url) as connection:
            rows = [connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone() for name in names]
        return [row[0] for row in rows if row is not None]

    def there(name: str) -> bool:
        with psycopg.connect(database_url) as connection:
            return connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone() == (True,)

    kept = counts("item", "person", "audit")
    assert (kept[1], counts("credential", "pending_sign_in")) == (2, [2, 1])
    bring(database_url, "0005")  # a sign-in under way is begun again
    assert counts("credential", "item", "person", "audit") == [2, *kept]
    bring(database_url, "0003")
    assert counts("item", "person", "audit") == kept
    for name in ("credential", "session", "pending_sign_in", "sign_in_try", "claim_lock", "duty", "duty_contact"):
        assert not there(name)
    world = HubWorld.make(database_url, tmp_path / "keys")
    assert counts("item", "person", "audit", "credential") == [*kept, 0]
    again = PagedHub(world)
    with world.database.transaction() as connection:
        person = made.people["dr.rao"].person
        sign_in.set_password(connection, world.vault, person, hashed(OWN), "test", NOW_MS)
    assert "E_NO_SECOND_FACTOR" in again.window().send("/sign-in", {"login": "dr.rao", "password": OWN}).text
