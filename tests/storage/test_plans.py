import pytest

from storage.errors import InvalidValue, PlanRequired
from storage.plans import PLANS, Feature, get_plan, is_capped, require
from storage.settings import Settings


def test_free_has_a_cap_and_a_short_log_and_pro_has_neither():
    settings = Settings(monthly_requests_free=10_000)
    free, pro = PLANS["free"], PLANS["pro"]
    assert (free.monthly_limit(settings), free.retention_days, free.alert_rules) == (10_000, 7, 3)
    assert (pro.monthly_limit(settings), pro.retention_days, pro.alert_rules) == (None, 90, 100)


def test_an_unknown_plan_is_no_way_around_the_cap():
    assert [is_capped(name) for name in ("free", "pro", "enterprise", "")] == [
        True,
        False,
        True,
        True,
    ]


def test_pro_has_every_feature_and_free_says_where_to_get_it():
    for feature in Feature:
        require("pro", feature)
        with pytest.raises(PlanRequired, match="Free plan does not include") as refused:
            require("free", feature)
        assert refused.value.plan == "pro"
        assert "Pro does. Switch on Settings, Plan" in str(refused.value)
    with pytest.raises(PlanRequired, match="more than 3 alert rules"):
        require("free", "alerts.more_than_3")


@pytest.mark.parametrize("name", ["", "Free", "enterprise"])
def test_no_other_plan(name):
    with pytest.raises(InvalidValue, match="a plan is one of: free, pro"):
        get_plan(name)
    with pytest.raises(InvalidValue):
        require(name, Feature.MORE_ALERT_RULES)


def test_the_database_keeps_rows_as_long_and_knows_the_same_plans(administrator):
    for plan in PLANS.values():
        kept = administrator.execute("SELECT metrion.retention_days(%s) AS days", [plan.name])
        assert kept.fetchone() == {"days": plan.retention_days}
    allowed = administrator.execute("""
        SELECT pg_get_constraintdef(oid) AS rule FROM pg_constraint
        WHERE conrelid = 'metrion.accounts'::regclass AND conname = 'accounts_plan_check'
    """).fetchone()
    names = ", ".join(f"'{name}'::text" for name in PLANS)
    assert allowed == {"rule": f"CHECK ((plan = ANY (ARRAY[{names}])))"}
    partitions = administrator.execute("""
        SELECT pg_get_expr(relpartbound, oid) AS bound FROM pg_class
        WHERE oid IN (
          SELECT inhrelid FROM pg_inherits WHERE inhparent = 'metrion.request_logs'::regclass)
    """).fetchall()
    assert {row["bound"] for row in partitions} == {
        f"FOR VALUES IN ('{plan.retention_days}')" for plan in PLANS.values()
    }
