"""What is reported and in which order (when it is sent is a matter of real processes: system/test_reports.py)."""

from gtask.protocol import CreatedTaskId, Generated, Processed, SwitchedToGenerator, Totals
from gtask.report import Reporter


def test_totals_are_reported_when_they_have_changed_and_when_it_is_time() -> None:
    totals = Totals()
    reporter = Reporter(totals)
    reporter.created(7)
    assert reporter.due(totals=False) == [CreatedTaskId(7)]
    assert reporter.due(totals=True) == []
    totals.processed, totals.errors = 3, 1
    assert reporter.due(totals=False) == []
    assert reporter.due(totals=True) == [Processed(3, 1)]
    assert reporter.due(totals=True) == []


def test_a_handler_sends_its_totals_before_it_says_that_it_generates() -> None:
    totals = Totals()
    reporter = Reporter(totals)
    totals.processed = 5
    reporter.generating()
    totals.generated = 2
    assert reporter.due(totals=True) == [Processed(5, 0), SwitchedToGenerator(), Generated(2)]


def test_what_a_generator_still_finishes_is_reported_when_it_handles_again() -> None:
    totals = Totals()
    reporter = Reporter(totals)
    reporter.generating()
    reporter.due(totals=True)
    totals.processed = 1
    assert reporter.due(totals=True) == [], "a processed would mean that it is a handler again"
    totals.generated = 4
    reporter.handling()
    assert reporter.due(totals=False) == [Generated(4), Processed(1, 0)]


def test_the_way_back_is_said_by_a_processed_even_when_no_total_has_changed() -> None:
    reporter = Reporter(Totals())
    reporter.generating()
    reporter.handling()
    assert reporter.due(totals=False)[-1] == Processed(0, 0)


def test_at_the_end_all_totals_are_reported_in_either_role() -> None:
    totals = Totals()
    reporter = Reporter(totals)
    reporter.generating()
    totals.generated, totals.processed = 4, 2
    assert reporter.due(totals=True, final=True) == [SwitchedToGenerator(), Generated(4), Processed(2, 0)]


def test_becoming_what_one_is_already_says_nothing() -> None:
    reporter = Reporter(Totals())
    reporter.handling()
    assert reporter.due(totals=True) == []
    reporter.generating()
    reporter.generating()
    assert reporter.due(totals=True) == [SwitchedToGenerator()]
