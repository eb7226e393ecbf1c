"""Interrupts while Dagster runs come to whom they are for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import dagster as dg
import pytest

from pipelines.signals import interruptible, interrupts_kept

pytestmark = pytest.mark.unit

INTERRUPTS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class Heard(BaseException):
    """What the caller's handler raises."""


def raise_heard(_number: int, _frame: object) -> None:
    raise Heard


@pytest.fixture(autouse=True)
def caller() -> Iterator[None]:
    """A caller who hears of interrupts in his own way."""
    before = {number: signal.signal(number, raise_heard) for number in INTERRUPTS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", INTERRUPTS[:2])
def test_psycopg_hears_a_keyboard_interrupt_and_dagster_its_own(number: signal.Signals) -> None:
    def work() -> None:
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(number)
        raise caught.value

    with pytest.raises(dg.DagsterExecutionInterruptedError), interruptible():
        work()
    with pytest.raises(Heard):
        signal.raise_signal(number)


def test_work_in_a_thread_changes_no_handler() -> None:
    found: list[object] = []

    def work() -> None:
        with interruptible():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [raise_heard]


@pytest.mark.parametrize("number", INTERRUPTS)
def test_an_interrupt_that_is_overlooked_comes_to_the_caller_at_the_end(number: signal.Signals) -> None:
    done = []

    def overlook() -> None:
        signal.signal(number, lambda *_: None)
        signal.raise_signal(number)
        done.append("all")

    with pytest.raises(Heard), interrupts_kept():
        overlook()
    assert done == ["all"]
    assert signal.getsignal(number) is raise_heard


def test_without_an_interrupt_the_callers_handlers_are_back() -> None:
    with interrupts_kept(), dg.raise_execution_interrupts():
        pass
    assert [signal.getsignal(number) for number in INTERRUPTS] == [raise_heard] * 3


def test_an_interrupt_that_a_run_of_a_job_makes_a_failure_of_comes_to_the_caller() -> None:
    @dg.op
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    @dg.job
    def a_job() -> None:
        interrupted()

    quiet = dg.RunConfig(loggers={"console": {"config": {"log_level": "CRITICAL"}}})
    runs = []
    with pytest.raises(Heard), interrupts_kept():
        runs.append(a_job.execute_in_process(quiet, raise_on_error=False))
    assert [run.success for run in runs] == [False]
