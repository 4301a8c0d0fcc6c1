"""A task from the gateway's Service to MySQL, Flower and Prometheus."""

import json
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from celerykit.database import connect
from tests.e2e.cluster import eventually

DONE = 'sum(worker_task_finished_total{queue="default"})'
pytestmark = pytest.mark.timeout(300)


@pytest.mark.behaviour("C37")
def test_a_post_ends_as_a_row_a_success_in_flower_and_a_metric_that_moved(kit):
    before = kit.prometheus(DONE) or 0
    answer = kit.gateway("/v1/tasks/task.echo", "POST", {"args": ["through the cluster"]}, Prefer="wait=50")
    assert answer.status == 200, answer
    assert answer.json["result"] == "through the cluster"
    task = answer.json["id"]

    with connect(kit.database_url()) as database, database.cursor() as cursor:
        cursor.execute("SELECT status, result FROM celery_taskmeta WHERE task_id = %s", (task,))
        status, result = cursor.fetchone()
    assert (status, json.loads(result)) == ("SUCCESS", "through the cluster")

    shown = eventually(lambda: flowers(kit, task), 30, "the task in Flower")
    assert shown["name"] == "task.echo"
    eventually(lambda: (kit.prometheus(DONE) or 0) > before, 60, "the metric moved")


def flowers(kit, task):
    """What Flower's API says of a task, once it says that it ended well."""
    answer = kit.flower(f"/api/task/info/{task}")
    return answer.status == 200 and answer.json["state"] == "SUCCESS" and answer.json


@pytest.mark.behaviour("S17")
def test_the_gateway_lets_nobody_in_without_the_key(kit):
    answer = kit.ask("gateway", 8000, "/v1/tasks/task.echo", method="POST", body={"args": [1]})
    assert answer.status == 401


@pytest.mark.behaviour("C18", "S15")
def test_flower_lets_nobody_in_without_the_login(kit):
    assert kit.ask("flower", 5555, "/api/workers").status == 401
    assert kit.ask("flower", 5555, "/workers").status == 401


def test_a_browser_logs_in_to_flower_and_shows_the_workers_and_the_finished_task(kit):
    answer = kit.gateway("/v1/tasks/task.echo", "POST", {"args": ["seen"]}, Prefer="wait=50")
    eventually(lambda: flowers(kit, answer.json["id"]), 30, "the task in Flower")
    worker = kit.get("pods", "-l", "app.kubernetes.io/component=worker")["items"][0]["metadata"]["name"]
    user, password = kit.login("flower")
    address = kit.address("flower", 5555)
    with chromium() as browser:
        browser.get(f"http://{user}:{password}@{address}/workers")
        # the page breaks long names into lines
        page = WebDriverWait(browser, 30).until(
            lambda b: worker in (text := "".join(b.find_element(By.TAG_NAME, "body").text.split())) and text
        )
        assert "Online" in page
        browser.get(f"http://{address}/task/{answer.json['id']}")
        page = browser.find_element(By.TAG_NAME, "body").text
        assert "task.echo" in page
        assert "SUCCESS" in page


@contextmanager
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield browser
    finally:
        browser.quit()
