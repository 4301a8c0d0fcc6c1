"""`/healthz`, `/readyz`, `/metrics`."""

import pytest


async def test_alive_asks_neither_broker_nor_database(client):
    client.link.connected = False
    client.operations.down = True
    assert (await client.get("/healthz")).status == 200


@pytest.mark.parametrize("broker", [True, False])
@pytest.mark.parametrize("database", [True, False])
async def test_ready_needs_broker_and_database_and_says_which_is_away(client, broker, database):
    client.link.connected = broker
    client.operations.down = not database
    answer = await client.get("/readyz")
    assert answer.status == (200 if broker and database else 503)
    assert (answer.json["broker"], answer.json["database"]) == (broker, database)


async def test_known_series_begin_at_zero(client):
    text = (await client.get("/metrics")).text
    assert 'gateway_tasks_accepted_total{queue="default",task="task.echo"} 0.0' in text
    assert 'gateway_tasks_rejected_total{reason="backpressure"} 0.0' in text
    for code in (202, 503):
        assert (
            f'gateway_http_requests_total{{code="{code}",method="POST",route="/v1/tasks/{{name}}"}} 0.0'
            in text
        )
    assert "gateway_internal_errors_total 0.0" in text
    assert 'gateway_publish_total{outcome="returned"} 0.0' in text
    assert "task.secret" not in text


async def test_metrics_tell_the_state_of_now(client):
    client.link.in_flight = 3
    assert await client.metric("gateway_waits_in_flight") == 3
    assert await client.metric("gateway_broker_connected") == 1
    client.link.connected = False
    assert await client.metric("gateway_broker_connected") == 0
    assert await client.metric("gateway_http_requests_in_flight") == 0
    assert await client.metric("process_resident_memory_bytes") > 0


async def test_a_blocked_loop_shows_in_its_lag(client, monkeypatch):
    import asyncio
    import time

    monkeypatch.setattr("gateway.metrics._LAG_SECONDS", 0.01)
    watching = asyncio.create_task(client.gateway.metrics.watch_loop())
    await asyncio.sleep(0.03)
    time.sleep(0.3)  # noqa: ASYNC251  # the fault that is looked for
    await asyncio.sleep(0.03)
    watching.cancel()
    slow = await client.metric("gateway_event_loop_lag_seconds_count") - await client.metric(
        "gateway_event_loop_lag_seconds_bucket", le="0.1"
    )
    assert slow == 1
