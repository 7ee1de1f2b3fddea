"""What the catalogue must say of the schema, whatever tables and functions it has by now."""

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import storage.alert_rules
from storage import roles

# Which revision the schema is at: no account's data.
WITHOUT_ACCOUNT = {"alembic_version"}


@pytest.fixture(scope="module")
def catalogue(postgres, tmp_path_factory) -> Iterator[psycopg.Connection[Any]]:
    """An administrator's connection to a database with partitions."""
    folder = tmp_path_factory.mktemp("catalogue")
    with (
        postgres.fresh_database(folder) as fresh,
        psycopg.connect(fresh.administrator_url.get_secret_value(), autocommit=True) as connection,
    ):
        connection.execute("SELECT metrion.ensure_partitions(current_date, current_date + 9)")
        yield connection


@pytest.fixture(scope="module")
def places(catalogue, read_places):
    """Every table and partition there is in the schema."""
    found = read_places(catalogue)
    assert len([place for place in found if place.is_partition]) > 10
    return found


@pytest.fixture(params=roles.LOGIN_ROLES)
def role(request) -> str:
    return request.param


EXECUTABLE = {
    roles.PROXY: {
        "lookup_token(bytea[])",
        "ingest(jsonb)",
        "gone_accounts(uuid[])",
        # an account and a keyed digest in; its answer, sealed, out
        "cached_answer(uuid,bytea[],integer)",
        "store_answer(uuid,uuid,bytea[],bytea,integer,bigint)",
    },
    roles.API: {
        "account()",
        "retention_days(text)",
        "log_start(text,timestamp with time zone)",
        "log_window_start()",
        # an address or a digest in, the account's id out: how somebody signs in
        "account_id_by_email(text)",
        "account_by_token(bytea[])",
        # a digest in; the code's or session's account out
        "issue_code(text,text,bytea,bytea)",
        "try_code(text,bytea[],bytea[])",
        "session_by_digest(bytea[])",
        # a customer of Stripe's in, the account's id out; then what belongs to the account it has set
        "account_by_customer(text)",
        "record_subscription(bigint,text,text,text,timestamp with time zone,boolean,text,text)",
        # for the transaction's own account
        "request_erasure(uuid,bytea[],text)",
        # a mail for the transaction's account, or for nobody's
        "put_mail(uuid,uuid,text,text,text,text,text)",
    },
    roles.JOBS: {
        "ensure_partitions(date,date)",
        "drop_expired_partition()",
        "delete_expired_logs(integer)",
        "delete_expired_sign_ins(integer)",
        "billing_to_check(integer)",
        "record_subscription_of(uuid,bigint,text,text,text,timestamp with time zone,boolean,text)",
        "close_billing(uuid)",
        "forget_billing_events(integer)",
        "delete_expired_answers(integer)",
        # an erasure's id in, never an account's
        "claim_erasure(uuid)",
        "look_at_erasure(uuid)",
        "reach_erasure_state(uuid,text,text)",
        "postpone_erasure(uuid,double precision,text)",
        "account_tables()",
        "purge_chunk(uuid,text,integer)",
        "finish_purge(uuid)",
        "note_erased_mails(uuid,bigint)",
        "forget_erasures(integer)",
        "put_mail(uuid,uuid,text,text,text,text,text)",
        "take_mails(integer,integer)",
        "put_mail_off(uuid,integer,text,integer)",
        "finish_mail(uuid,boolean)",
        "account()",
        "accounts_to_judge(bigint)",
        "judged_up_to(bigint)",
    },
}


def functions(catalogue, condition):
    rows = catalogue.execute(f"""
        SELECT replace(oid::regprocedure::text, 'metrion.', '') FROM pg_proc AS p
        WHERE pronamespace = 'metrion'::regnamespace AND {condition}
    """).fetchall()
    return {name for (name,) in rows}


def test_each_role_may_call_its_own_functions_only(catalogue, role):
    allowed = functions(catalogue, f"has_function_privilege('{role}', oid, 'EXECUTE')")
    assert allowed == EXECUTABLE[role]


def test_nobody_calls_a_function_by_being_the_public(catalogue):
    assert functions(catalogue, "has_function_privilege('public', oid, 'EXECUTE')") == set()


def test_functions_with_their_owners_rights_cannot_be_led_astray(catalogue):
    """A fixed search_path, or an object of the caller's could stand where theirs is meant."""
    fixed = "coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"
    assert functions(catalogue, f"prosecdef AND NOT {fixed}") == set()


def test_every_table_is_forced_and_has_a_policy_unless_nobody_may_use_it(catalogue, places):
    for place in places:
        if place.name in WITHOUT_ACCOUNT:
            continue
        enabled, forced, policies, granted = catalogue.execute(
            """
            SELECT relrowsecurity, relforcerowsecurity,
              (SELECT count(*) FROM pg_policy WHERE polrelid = c.oid
                AND pg_get_expr(polqual, polrelid) LIKE '%%account()%%'),
              EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee <> relowner)
            FROM pg_class AS c WHERE oid = %s::regclass
            """,
            [f"metrion.{place.name}"],
        ).fetchone()
        assert enabled, place.name
        assert forced, place.name
        if place.is_partition:
            # reached through the table above it, whose policies hold then; by itself by nobody
            assert (policies, granted) == (0, False), place.name
        else:
            assert policies > 0, place.name


def test_a_policy_for_a_service_role_is_about_its_account(catalogue):
    rows = catalogue.execute("""
        SELECT tablename || '.' || policyname, condition
        FROM pg_policies CROSS JOIN unnest(ARRAY[qual, with_check]) AS condition
        WHERE schemaname = 'metrion' AND roles <> '{metrion_definer}' AND condition IS NOT NULL
    """).fetchall()
    assert rows
    for name, condition in rows:
        first = re.match(
            r"\(+(account_)?id = \( SELECT metrion\.account\(\) AS account\)\)", condition
        )
        assert first, name
        assert " OR " not in condition, name


# What rules are judged by: the jobs process reads it within one account at a time.
READ_BY_JOBS = {
    *("accounts", "alert_mails", "alert_rules"),
    *("usage_days", "usage_hours", "usage_sums"),
}


def test_the_proxy_has_no_right_on_any_table_and_jobs_reads_what_rules_need(catalogue, places):
    for name, allowed in ((roles.PROXY, set[str]()), (roles.JOBS, READ_BY_JOBS)):
        held = {
            place.name
            for place in places
            if catalogue.execute(
                "SELECT has_table_privilege(%(role)s, %(table)s,"
                " 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
                " OR has_any_column_privilege(%(role)s, %(table)s,"
                " 'SELECT, INSERT, UPDATE, REFERENCES')",
                {"role": name, "table": f"metrion.{place.name}"},
            ).fetchone()
            == (True,)
        }
        assert held == allowed, name


def test_jobs_writes_nothing_but_what_it_remembers_of_rules(catalogue):
    written = catalogue.execute(
        "SELECT DISTINCT table_name || '.' || column_name FROM information_schema.column_privileges"
        " WHERE grantee = %s AND privilege_type = 'UPDATE'",
        [roles.JOBS],
    ).fetchall()
    assert {name for (name,) in written} == {
        f"alert_rules.{name}" for name in storage.alert_rules.Memory.__slots__
    }


def test_no_role_is_more_than_it_must_be(catalogue):
    everyone = [*roles.LOGIN_ROLES, roles.OWNER, "metrion_definer"]
    attributes = catalogue.execute(
        "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY (%s)"
        " AND NOT (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication"
        " OR rolinherit)",
        [everyone],
    ).fetchall()
    assert dict(attributes) == {name: name in roles.LOGIN_ROLES for name in everyone}
    memberships = catalogue.execute(
        "SELECT member::regrole FROM pg_auth_members WHERE member::regrole::text = ANY (%s)",
        [everyone],
    ).fetchall()
    assert memberships == []


def test_no_service_role_owns_anything(catalogue):
    owned = catalogue.execute(
        "SELECT refobjid::regrole, classid::regclass, objid FROM pg_shdepend"
        " WHERE deptype = 'o' AND refobjid = ANY (%s::regrole[]::oid[])",
        [list(roles.LOGIN_ROLES)],
    ).fetchall()
    assert owned == []


def test_owners_are_the_two_that_nobody_logs_in_as(catalogue):
    owners = catalogue.execute("""
        SELECT relowner::regrole::text FROM pg_class WHERE relnamespace = 'metrion'::regnamespace
        UNION SELECT proowner::regrole::text FROM pg_proc
          WHERE pronamespace = 'metrion'::regnamespace
        UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'metrion'
    """).fetchall()
    assert {owner for (owner,) in owners} == {"metrion_owner", "metrion_definer"}


def test_service_roles_may_connect_to_the_database_and_no_more(catalogue, role):
    for right, expected in (("CONNECT", True), ("CREATE", False), ("TEMPORARY", False)):
        held = catalogue.execute(
            "SELECT has_database_privilege(%s, current_database(), %s)", [role, right]
        ).fetchone()
        assert held == (expected,), right
    creatable = catalogue.execute(
        "SELECT nspname FROM pg_namespace WHERE has_schema_privilege(%s, oid, 'CREATE')", [role]
    ).fetchall()
    assert creatable == []


def test_there_are_no_views_to_see_through(catalogue):
    views = catalogue.execute(
        "SELECT relname FROM pg_class"
        " WHERE relnamespace = 'metrion'::regnamespace AND relkind IN ('v', 'm', 'f')"
    ).fetchall()
    assert views == []
