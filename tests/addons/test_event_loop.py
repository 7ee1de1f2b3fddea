"""The event loop of a production proxy."""

import asyncio
import contextvars

from addons.event_loop import EventLoop

_place = contextvars.ContextVar("_place", default="outside")


def run[T](work) -> T:
    return asyncio.run(work, loop_factory=EventLoop)


async def test_what_it_is_compared_with_does_not_begin_at_once():
    task = asyncio.get_running_loop().create_task(asyncio.sleep(0))
    assert not task.done()
    await task


def test_a_task_that_waits_for_nothing_is_done_when_it_has_been_made():
    async def answer() -> int:
        return 42

    async def work() -> int:
        task = asyncio.get_running_loop().create_task(answer(), name="of all questions")
        assert task.done()
        assert task.get_name() == "of all questions"
        return task.result()

    assert run(work()) == 42


def test_a_task_that_waits_goes_on_later_and_in_a_group_too():
    async def work() -> list[str]:
        said: list[str] = []

        async def speak() -> None:
            said.append("began")
            await asyncio.sleep(0)
            said.append("ended")

        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            said.append("made")
        return said

    assert run(work()) == ["began", "made", "ended"]


def test_mitmproxys_wish_for_eager_tasks_is_as_good_as_granted():
    async def answer() -> int:
        return 42

    async def work() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(answer())
        assert task.done()
        assert await task == 42

    run(work())


def test_a_task_has_the_context_that_it_is_given():
    async def place() -> str:
        return _place.get()

    async def work() -> str:
        context = contextvars.copy_context()
        context.run(_place.set, "inside")
        return await asyncio.get_running_loop().create_task(place(), context=context)

    assert run(work()) == "inside"


def test_a_failure_of_a_task_is_its_own():
    async def fail() -> None:
        raise ValueError("no")

    async def work() -> BaseException | None:
        task = asyncio.get_running_loop().create_task(fail())
        return task.exception()

    assert isinstance(run(work()), ValueError)
