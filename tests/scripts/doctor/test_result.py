from scripts.doctor.result import Status, finding, ok, skipped


def test_only_a_finding_has_advice():
    assert (ok("disk", "fine").status, ok("disk", "fine").advice) == (Status.OK, "")
    assert skipped("mail", "none").status is Status.SKIPPED
    wrong = finding("disk", "full", "make room")
    assert (wrong.check, wrong.status, wrong.advice) == ("disk", "finding", "make room")
