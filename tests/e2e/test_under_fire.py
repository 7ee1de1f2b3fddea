"""All of it together, under fire: chaos, and half an hour of traffic.

The long forms: `scripts/test -m chaos`, `scripts/test -m soak`. The short ones, with all other
tests, share a deployment. Two proxies, Valkey, API, jobs, PostgreSQL; a mail server and the fake
providers are in this process. What clients saw is compared with what was recorded of it.
"""

import asyncio
import contextlib
import email
import email.policy
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import valkey
from aiosmtpd.controller import Controller

from addons.providers import load_providers
from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from scripts.proof import books, calls, faults, promises, sampling, stage, unsteady
from scripts.proof.arrivals import Arrivals
from scripts.proof.faults import Chaos
from scripts.proof.traffic import Traffic
from storage import accounts, alerts, callers, outbox, roles
from storage.alert_rules import Definition, Period
from storage.database import Database
from storage.database_url import service_url
from storage.errors import StorageError
from storage.journal import look_at
from storage.sealing import MasterKeys
from storage.single_statements import SingleStatements

NAMES = [provider.name for provider in load_providers()]
WORKERS = 2
RULES = 8
MINUTE = 60.0
DRAINED_SECONDS = 150.0  # a mail whose sender was killed waits for its lease to end
LONG_SECONDS = 600
LATE_SECONDS = 30.0
SEVERAL = 2
TALKING = ("proxy-1", "proxy-2", "api", "jobs")  # those who say how many tasks they have


@dataclass(frozen=True)
class Scale:
    """Limits of a deployment: so that some come to them, and others do not."""

    rate_limit: int
    cap: int
    threshold: int


@dataclass(frozen=True)
class SoakLength:
    """Seconds of traffic before anything is measured, and while; requests in a second."""

    scale: Scale
    warm_up: float
    seconds: float
    every: float
    rate: float


@dataclass(frozen=True)
class ChaosLength:
    """Seconds of faults and between two of them; which; requests in a second."""

    scale: Scale
    seconds: float
    pause: float
    names: tuple[str, ...]
    rate: float


FEW_FAULTS = ("proxy-1", "postgres", "valkey", "full disk", "wall clock")
ALL_FAULTS = (*faults.KILLS, *faults.OTHERS, faults.ALL_AT_ONCE)
SMALL = Scale(rate_limit=200, cap=20, threshold=4)
LARGE = Scale(rate_limit=600, cap=400, threshold=100)
LONGEST = Scale(rate_limit=1_000_000, cap=4_000, threshold=1000)


class MailServer:
    """An SMTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.mails: list[promises.Mail] = []
        self.port = claim_port(0, "")
        self._controller: Controller | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802 - aiosmtpd's name
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        identifier = str(message["Message-ID"]).strip("<>").partition("@")[0]
        to, subject = envelope.rcpt_tos[0], str(message["Subject"])
        self.mails.append(promises.Mail(identifier, to, subject, time.monotonic()))
        return "250 OK"

    def start(self) -> None:
        self._controller = Controller(self, "127.0.0.1", self.port)
        self._controller.start()

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None


@dataclass
class Fire:
    """A deployment and everybody around it.

    Attributes:
        seen: all requests of all runs.
    """

    folder: Path
    deployed: Any
    scale: Scale
    steady: FakeProvider
    fragile: FakeProvider
    mail_server: MailServer
    cast: stage.Cast
    arrivals: Arrivals
    seen: list[books.Seen] = field(default_factory=list)

    async def take_arrivals(self, is_over: asyncio.Event) -> None:
        while not is_over.is_set():
            self.arrivals.take()
            await asyncio.sleep(1)

    def traffic(self, seed: int, rate: float) -> Traffic:
        made = Traffic(
            list(self.cast.people),
            lambda: self.deployed.proxy_url,
            seed=seed,
            rate=rate,
            clients=24,
        )
        made.seen = self.seen
        return made

    @property
    def is_drained(self) -> bool:
        return stage.journal_is_done(self.deployed.data_dir, look_at)


@pytest.fixture(scope="module")
def fires(deployment_type, tmp_path_factory) -> Iterator[Callable[[Scale], Fire]]:
    """A function that gives a deployment whose processes can be disturbed: one for each scale."""
    made: dict[Scale, Fire] = {}
    with contextlib.ExitStack() as stack:

        def give(scale: Scale) -> Fire:
            if scale not in made or not made[scale].deployed.is_up:
                folder = tmp_path_factory.mktemp("fire")
                made[scale] = stack.enter_context(light(deployment_type, folder, scale))
            return made[scale]

        yield give


@contextlib.contextmanager
def light(deployment_type, folder: Path, scale: Scale) -> Generator[Fire]:
    """Start it and all around it."""
    calls.write_prices(folder / "prices.toml")
    with (
        FakeProvider() as steady,
        FakeProvider() as fragile,
        MailServer() as mail_server,
    ):
        running = deployment_type(
            folder,
            [
                *(sys.executable, "-P", "-m", "scripts.proof.unsteady", str(folder)),
                *("--workers", str(WORKERS)),
            ],
            {
                "METRION_ORIGINS": json.dumps(stage.origins(steady, fragile, NAMES)),
                "METRION_PRICES_FILE": str(folder / "prices.toml"),
                "METRION_SMTP_URL": f"smtp://127.0.0.1:{mail_server.port}?tls=none",
                "METRION_TIMEOUT_SECONDS": "2",
                "METRION_DRAIN_SECONDS": "2",
                "METRION_MONTHLY_REQUESTS_FREE": str(scale.cap),
                "METRION_RATE_PER_MINUTE": str(scale.rate_limit),
            },
        )
        running.start()
        cast = stage.gather(running.create_account, NAMES)
        arrivals = Arrivals(steady, [fragile], cast.owners)
        made = Fire(folder, running, scale, steady, fragile, mail_server, cast, arrivals)
        asyncio.run(make_rules(made))
        running.close()
        yield made
        if running.is_up:
            running.stop()


async def make_rules(fire: Fire) -> None:
    """Two alert rules for each of some people, which will come to their thresholds."""
    database = Database(service_url(fire.deployed.settings, roles.API), pool_size=1)
    volume = Definition(
        "request_volume", "count", Decimal(fire.scale.threshold), Period("rolling", hours=720), "V"
    )
    budget = Definition("budget", "usd", Decimal("0.0002"), Period("month"), "B")
    try:
        for person in fire.cast.people[:4]:
            async with database.system() as connection:
                account_id = await accounts.find_account(connection, person.email)
            assert account_id is not None
            async with database.account(account_id) as connection:
                for definition in (volume, budget):
                    await alerts.create_rule(connection, account_id, definition)
    finally:
        await database.close()


# ---- around the traffic -------------------------------------------------------------------------


async def poll_api(fire: Fire, is_over: asyncio.Event) -> Counter[str]:
    """Ask the API, as dashboards do; nobody sees anybody else's rows. It may be away."""
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient(verify=False, timeout=30) as client:
        while not is_over.is_set():
            for person in fire.cast.people:
                with contextlib.suppress(httpx.TransportError, FileNotFoundError):
                    counts += await poll_once(fire.deployed.api_url, client, person)
                await asyncio.sleep(0.2)
    return counts


async def poll_once(url: str, client: httpx.AsyncClient, person: Any) -> Counter[str]:
    counts: Counter[str] = Counter()
    headers = {"authorization": f"Bearer {person.token}"}
    for path in ("logs?limit=50", "usage/overview?range=24h"):
        answer = await client.get(f"{url}/api/v1/{path}", headers=headers)
        counts[f"{path.partition('?')[0]} {answer.status_code}"] += 1
        if path.startswith("logs") and answer.status_code == 200:
            own = person.email.partition("@")[0]
            others = {row["requester"] for row in answer.json()["items"]} - {own}
            counts["rows of somebody else"] += len(others)
    return counts


async def change_tokens(fire: Fire, is_over: asyncio.Event) -> int:
    """Give somebody a new token every few seconds; returns how often."""
    settings, person, count = fire.deployed.settings, fire.cast.changing, 0
    master_keys = MasterKeys.load(settings)
    while not is_over.is_set():
        await asyncio.sleep(2)
        try:
            database = Database(service_url(settings, roles.API), pool_size=1)
        except StorageError:
            continue  # it is down
        try:
            async with database.system() as connection:
                account_id = await accounts.find_account(connection, person.email)
            assert account_id is not None
            async with database.account(account_id) as connection:
                token = await accounts.regenerate_token(connection, master_keys, account_id)
        except StorageError:
            continue
        finally:
            await database.close()
        person.token = token
        count += 1
    return count


async def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.1)


# ---- the books ----------------------------------------------------------------------------------


def compare(fire: Fire, happened: faults.Happened, ledger: Any) -> tuple[books.Findings, list[str]]:
    """Compare everything; returns what disagrees, and what there is to be said beside it."""
    rows = ledger.rows()
    fire.arrivals.take()
    found = books.compare_rows(
        fire.seen,
        rows,
        dropped=happened.dropped,
        disk_was_full=happened.disk_was_full,
    )
    for name in ("usage_hours", "usage_days"):
        found.add(books.compare_records(*ledger.sums(name), name))
    killed, more = books.compare_providers(fire.seen, fire.arrivals.counts, rows)
    found.add(more)
    found.leaked += fire.arrivals.strangers
    found.add(promises.compare_cache(fire.seen, fire.arrivals.asked))
    found.add(compare_limits(fire, happened, ledger, rows))
    decided = [each for (each,) in ledger.ask("SELECT id::text FROM metrion.alert_mails")]
    lease = outbox.LEASE_SECONDS
    counts, more = promises.compare_mails(
        decided, fire.mail_server.mails, happened.mail_kills, lease
    )
    found.add(more)
    found.other += rules_not_mailed(ledger)
    whole = [each for each in fire.seen if each.whole]
    hits = sum(each.cache == "HIT" for each in whole)
    statuses = sorted(Counter(str(each.code or each.status) for each in whole).items())
    shifted = rows_of_another_time(fire.seen, rows)
    if happened.counts["wall clock"] > SEVERAL:
        assert shifted, "no clock was wrong"
    handed = f"of them again after a kill between handing over and noting it: {counts.again}"
    return found, [
        f"requests {len(fire.seen)}, read to their end {len(whole)}, rows {len(rows)}",
        f"stored answers given: {hits}",
        f"answers: {', '.join(f'{status}: {count}' for status, count in statuses)}",
        f"rows dated by a clock that was wrong by more than {LATE_SECONDS:.0f} s: {shifted}",
        f"rows dropped (and counted as dropped) while the disk was full: {happened.dropped}",
        f"requests at a provider without a row (proxy killed under them, or disk full): {killed}",
        f"mails decided {counts.decided}, taken {counts.taken}, {handed}",
    ]


def rows_of_another_time(seen: list[books.Seen], rows: list[dict[str, Any]]) -> int:
    """How many rows say another time than their clients': a clock was wrong."""
    offset = time.time() - time.monotonic()
    begun = {each.id: each.began + offset for each in seen}
    return sum(
        abs(row["created_at"].timestamp() - begun[row["id"]]) > LATE_SECONDS
        for row in rows
        if row["id"] in begun
    )


def compare_limits(
    fire: Fire, happened: faults.Happened, ledger: Any, rows: list[dict[str, Any]]
) -> books.Findings:
    """Rate and month: what passed, what is counted."""
    capped = {person.email for person in fire.cast.capped}
    uncertain = happened.uncertain
    of_capped = [each for each in fire.seen if each.person in capped]
    found = promises.over_limit(of_capped, fire.scale.cap, uncertain=uncertain, processes=WORKERS)
    found.add(
        promises.over_rate(
            fire.seen,
            fire.scale.rate_limit,
            MINUTE,
            uncertain=uncertain,
            processes=WORKERS,
            forgetful=happened.forgetful,
        )
    )
    forwarded: Counter[str] = Counter()
    for row in rows:
        if row["forwarded"]:
            month = row["created_at"].astimezone(UTC).date().replace(day=1)
            forwarded[f"{row['person']} {month}"] += 1
    recorded = {
        f"{person} {month}": int(count) for person, month, count in ledger.ask(ledger.MONTHS)
    }
    found.add(promises.compare_allowance(forwarded, {k: v for k, v in recorded.items() if v}))
    this_month = datetime.now(UTC).date().replace(day=1)
    known = asyncio.run(month_of(fire))
    used = {person: forwarded[f"{person} {this_month}"] for person in capped}
    found.add(promises.compare_allowance(used, known))
    found.add(promises.compare_count(of_capped, rows, used, shared_counts(fire, ledger), uncertain))
    return found


async def month_of(fire: Fire) -> dict[str, int]:
    """What a proxy is told of a month when it meets a token."""
    settings = fire.deployed.settings
    master_keys = MasterKeys.load(settings)
    statements = SingleStatements(service_url(settings, roles.PROXY))
    found: dict[str, int] = {}
    try:
        for person in fire.cast.capped:
            digests = master_keys.token_digests(person.token)
            caller = await callers.find_caller(statements, digests)
            assert caller is not None
            found[person.email] = caller.month_requests
    finally:
        await statements.close()
    return found


def shared_counts(fire: Fire, ledger: Any) -> dict[str, int]:
    """What Valkey has counted of this month."""
    text = (fire.deployed.data_dir / "valkey" / "valkey.conf").read_text()
    words = dict(line.split(" ", 1) for line in text.splitlines())
    month, found = f"{datetime.now(UTC):%Y-%m}", {}
    ids = dict(ledger.ask("SELECT email, id::text FROM metrion.accounts"))
    with valkey.Valkey(port=int(words["port"]), password=words["requirepass"]) as client:
        for person in fire.cast.capped:
            key = f"metrion:month:{ids[person.email]}:{month}"
            found[person.email] = int(client.get(key) or 0)
    return found


def rules_not_mailed(ledger: Any) -> list[str]:
    """Rules that came to their threshold have one mail of it, and one warning at most."""
    counts = ledger.ask("""
        SELECT a.email, r.name, r.threshold <= CASE r.name WHEN 'V' THEN count(l.id)
            ELSE coalesce(sum(l.cost_usd), 0) END,
          (SELECT count(*) FROM metrion.alert_mails AS m WHERE m.rule_id = r.id AND level = 'alert'),
          (SELECT count(*) FROM metrion.alert_mails AS m WHERE m.rule_id = r.id AND level = 'warning')
        FROM metrion.alert_rules AS r JOIN metrion.accounts AS a ON a.id = r.account_id
          LEFT JOIN metrion.request_logs AS l ON l.account_id = a.id AND l.created_at <= now()
        GROUP BY a.email, r.id
    """)
    assert len(counts) == RULES
    return [
        f"rule {name} of {person} has {alerted} alerts and {warned} warnings"
        for person, name, is_reached, alerted, warned in counts
        if alerted != is_reached or warned > 1
    ]


async def settle(ledger: Any) -> None:
    """Wait until what has to be mailed is mailed; if it is not, the comparison says so."""
    deadline = time.monotonic() + DRAINED_SECONDS
    while rules_not_mailed(ledger) or ledger.ask("SELECT id FROM metrion.outbox"):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.2)


def end(fire: Fire) -> books.Findings:
    """Stop it, and look at what it has left."""
    fire.deployed.stop()
    journal = fire.deployed.data_dir / "journal"
    left = [f"left: {path.name}" for path in journal.rglob("*") if path.is_file()]
    found = books.Findings(other=left)
    try:
        fire.deployed.check_for_leaks()
    except AssertionError as error:
        found.leaked.append(str(error))
    return found


# ---- chaos --------------------------------------------------------------------------------------


async def run_chaos(fire: Fire, length: ChaosLength, seed: int) -> tuple[faults.Happened, str]:
    traffic = fire.traffic(seed, length.rate)
    chaos = Chaos(
        fire.deployed,
        fire.folder,
        traffic,
        providers=fire.fragile,
        mail_server=fire.mail_server,
        seed=seed,
    )
    planned = faults.schedule(seed, length.seconds, length.names, length.pause)
    print(f"seed {seed}: {planned}")  # noqa: T201 - to be found again
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(traffic.run())
        tasks.create_task(fire.take_arrivals(is_over))
        polling = tasks.create_task(poll_api(fire, is_over))
        changing = tasks.create_task(change_tokens(fire, is_over))
        await chaos.run(planned)
        await asyncio.sleep(1)
        traffic.stop()
        await sending
        is_over.set()
    await until(lambda: fire.is_drained, DRAINED_SECONDS)
    polled = dict(polling.result())
    return chaos.happened, f"API asked meanwhile: {polled}; new tokens: {changing.result()}"


def table_of(seed: int, happened: faults.Happened, found: books.Findings, notes: list[str]) -> str:
    done = [f"{name:<20} {count:>5}" for name, count in sorted(happened.counts.items())]
    result = (
        f"lost {len(found.lost)}, doubled {len(found.doubled)}, leaked {len(found.leaked)}, "
        f"wrong {len(found.wrong)}, other {len(found.other)}"
    )
    return "\n".join([f"seed {seed}", f"{'fault':<20} times", *done, *notes, result])


@pytest.mark.parametrize(
    "length",
    [
        pytest.param(SoakLength(SMALL, warm_up=1.5, seconds=3, every=1, rate=30), id="short"),
        pytest.param(
            SoakLength(LONGEST, warm_up=240, seconds=1800, every=5, rate=80),
            id="long",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_what_processes_hold_is_flat(
    fires: Callable[[Scale], Fire], length: SoakLength, ledger_type, table
) -> None:
    """Nothing fails here but what clients and providers do: so the books are exact."""
    fire = fires(length.scale)
    watch, said = asyncio.run(run_soak(fire, length))
    found = books.Findings()
    with ledger_type(fire.deployed.ready["database_url"]) as ledger:
        asyncio.run(settle(ledger))
        rows = ledger.rows()
        found, notes = compare(fire, faults.Happened(), ledger)
        ids = {row["id"] for row in rows}
        check_that_it_would_be_found(fire, ledger, rows)
    # nobody was killed: whoever has seen a head has a row, however it went on
    begun = [each for each in fire.seen if each.id and each.is_forwarded]
    found.lost += [f"{each.id}, not read to its end" for each in begun if each.id not in ids]
    text = "\n".join([sampling.as_table(watch.samples, bounds_of), said, *notes, str(found)])
    table(text)
    assert not found, text
    # a short time shows what is not given back; what grows, and whether memory does, a long one
    assert watch.not_given_back() == {}, text
    if length.seconds > LONG_SECONDS:
        assert watch.grown() == {}, text


def check_that_it_would_be_found(fire: Fire, ledger: Any, rows: list[dict[str, Any]]) -> None:
    """What was compared is compared again, with a fault of each kind in it."""
    ids = {each.id for each in fire.seen if books.must_have_row(each) and each.expected.cost}
    row = next(row for row in rows if row["id"] in ids and row["outcome"] == "ok")
    others = [each for each in rows if each is not row]
    assert len(books.compare_rows(fire.seen, others).lost) == 1
    assert len(books.compare_rows(fire.seen, [*rows, row]).doubled) == 1
    for wrong in ({"total_tokens": 0}, {"cost_usd": None}, {"outcome": "timeout"}):
        assert len(books.compare_rows(fire.seen, [*others, row | wrong]).wrong) == 1
    of_rows, recorded = ledger.sums("usage_days")
    assert books.compare_records(of_rows[1:], recorded, "usage_days").other
    mails = fire.mail_server.mails
    decided = [mail.id for mail in mails]
    assert promises.compare_mails(decided, [*mails, mails[0]], [], 1.0)[1].doubled
    assert promises.compare_mails(decided, mails[1:], [], 1.0)[1].lost


def bounds_of(name: str) -> sampling.Bounds:
    """PostgreSQL opens a table's files when a connection first needs them, and keeps them."""
    return sampling.Bounds(files=2_000) if name == "postgres" else sampling.Bounds()


class Watch:
    """Looks at all processes of a deployment."""

    def __init__(self, fire: Fire) -> None:
        self.samples: dict[str, list[sampling.Holding]] = defaultdict(list)
        self.before: dict[str, sampling.Holding] = {}
        self.after: dict[str, sampling.Holding] = {}
        self._fire = fire

    def look(self) -> dict[str, sampling.Holding]:
        """Look once; who is away just now is left out."""
        found: dict[str, sampling.Holding] = {}
        deployed, folder = self._fire.deployed, self._fire.folder
        for name, pid in deployed.ready["pids"].items():
            if name == "postgres":
                found[name] = sampling.holding_of_all(deployed.processes_of(pid))
                continue
            count = (lambda p: unsteady.count_tasks(folder, p)) if name in TALKING else None
            if (held := sampling.holding_of(pid, count)) is not None:
                found[name] = held
        return found

    async def run(self, seconds: float, every: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(every)
            for name, held in (await asyncio.to_thread(self.look)).items():
                self.samples[name].append(held)

    def grown(self) -> dict[str, list[str]]:
        """Who held more at the end of the traffic than at its beginning."""
        found = {name: sampling.grown(held, bounds_of(name)) for name, held in self.samples.items()}
        return {name: grown for name, grown in found.items() if grown}

    def not_given_back(self) -> dict[str, list[str]]:
        """Who has more open than before, now that nobody asks for anything; memory apart.

        PostgreSQL's part of it is connections, which are others' files, and kept by their pools.
        """
        found = {
            name: sampling.grown([self.before[name], held], bounds_of(name))
            for name, held in self.after.items()
            if name != "postgres"
        }
        return {
            name: kept
            for name, grown in found.items()
            if (kept := [each for each in grown if "memory" not in each])
        }


async def run_soak(fire: Fire, length: SoakLength) -> tuple[Watch, str]:
    watch, is_over = Watch(fire), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fire.take_arrivals(is_over))
        await send_for(fire, length.warm_up, length.rate, seed=1)
        watch.before = await asyncio.to_thread(watch.look)
        polling = tasks.create_task(poll_api(fire, is_over))
        changing = tasks.create_task(change_tokens(fire, is_over))
        sending = tasks.create_task(send_for(fire, length.seconds, length.rate, seed=2))
        await watch.run(length.seconds, length.every)
        await sending
        is_over.set()
    await asyncio.sleep(3)  # what is left behind is read on for two
    await until(lambda: fire.is_drained, DRAINED_SECONDS)
    watch.after = await asyncio.to_thread(watch.look)
    return watch, f"API asked: {dict(polling.result())}; new tokens: {changing.result()}"


async def send_for(fire: Fire, seconds: float, rate: float, seed: int) -> None:
    traffic = fire.traffic(seed, rate)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(traffic.run())
        await asyncio.sleep(seconds)
        traffic.stop()


@pytest.mark.parametrize(
    ("length", "seed"),
    [
        pytest.param(ChaosLength(SMALL, 6, 1.1, FEW_FAULTS, rate=30), 1, id="short"),
        *(
            pytest.param(
                ChaosLength(LARGE, 180, 4, ALL_FAULTS, rate=60),
                seed,
                id=f"long-{seed}",
                marks=pytest.mark.chaos,
            )
            for seed in (1, 2, 3)
        ),
    ],
)
def test_the_books_are_right_after_chaos(
    fires: Callable[[Scale], Fire], length: ChaosLength, seed: int, ledger_type, table
) -> None:
    fire = fires(length.scale)
    happened, said = asyncio.run(run_chaos(fire, length, seed))
    with ledger_type(fire.deployed.ready["database_url"]) as ledger:
        asyncio.run(settle(ledger))
        found, notes = compare(fire, happened, ledger)
    found.add(end(fire))
    text = table_of(seed, happened, found, [*notes, said])
    table(text)
    assert not found, f"{text}\n{found}"
