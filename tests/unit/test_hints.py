import asyncio
import threading

from sitq.backends.hints import Hub


async def test_whoever_listens_to_the_topic_is_woken():
    hub = Hub()
    listener = hub.listen({"a", "b"})
    waiting = asyncio.create_task(listener.wait(5))
    await asyncio.sleep(0)
    hub.hint(["b"])
    assert await waiting is True


async def test_other_topics_wake_nobody():
    hub = Hub()
    listener = hub.listen({"a"})
    hub.hint(["b"])
    assert await listener.wait(0) is False


async def test_a_hint_before_the_wait_is_not_missed_and_counts_once():
    hub = Hub()
    listener = hub.listen({"a"})
    hub.hint(["a", "a"])
    hub.hint(["a"])
    assert await listener.wait(0) is True
    assert await listener.wait(0) is False


async def test_a_hint_that_was_answered_at_once_does_not_wake_later():
    hub = Hub()
    listener = hub.listen({"a"})
    hub.hint(["a"])
    assert await listener.wait(5) is True  # answered before the loop got to set the event
    assert await listener.wait(0.05) is False


async def test_time_passes_without_a_hint():
    assert await Hub().listen({"a"}).wait(0.01) is False


async def test_every_listener_of_a_topic_is_woken():
    hub = Hub()
    listeners = [hub.listen({"a"}) for _ in range(3)]
    hub.hint(["a"])
    assert [await listener.wait(0) for listener in listeners] == [True] * 3


async def test_everybody_can_be_woken_at_once():
    hub = Hub()
    listeners = [hub.listen({topic}) for topic in "abc"]
    hub.hint_all()
    assert [await listener.wait(0) for listener in listeners] == [True] * 3


async def test_a_hint_from_another_thread_wakes():
    hub = Hub()
    listener = hub.listen({"a"})
    waiting = asyncio.create_task(listener.wait(5))
    await asyncio.sleep(0)
    thread = threading.Thread(target=hub.hint, args=(["a"],))
    thread.start()
    assert await waiting is True
    thread.join()


async def test_a_closed_listener_hears_nothing_and_leaves_nothing_behind():
    hub = Hub()
    listener, other = hub.listen({"a", "b"}), hub.listen({"a"})
    listener.close()
    listener.close()
    hub.hint(["a", "b"])
    assert await listener.wait(0) is False
    assert await other.wait(0) is True
    assert not hub.quiet
    other.close()
    assert hub.quiet


def test_a_listener_whose_loop_has_ended_disturbs_nobody():
    hub = Hub()

    async def listen():
        return hub.listen({"a"})

    asyncio.run(listen())
    hub.hint(["a"])
    hub.hint_all()


async def test_cancelling_a_wait_loses_no_hint():
    hub = Hub()
    listener = hub.listen({"a"})
    waiting = asyncio.create_task(listener.wait(5))
    await asyncio.sleep(0)
    waiting.cancel()
    hub.hint(["a"])
    await asyncio.wait([waiting])
    assert await listener.wait(0) is True
