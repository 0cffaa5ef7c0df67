"""What penquins does wrong, done right: one test or more for each known defect."""

import asyncio
import copy
import io
import json
import pickle
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from bson import ObjectId
from penquins_support import CANDIDS, OBJECT, OTHERS, POSITION, cone, entry, find, queries_of

from nuncius import errors
from nuncius.compat.penquins import Kowalski
from nuncius.sandbox.kowalski import SandboxKowalski


def counting(**condition):
    return {"query_type": "count_documents", "query": {"catalog": "ZTF_alerts", "filter": condition}}


# Answers and their order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_every_query_has_its_answer_in_the_order_asked(kowalski, box, batch):
    queries = [find(candid=candid) for candid in CANDIDS]
    box.delay(0.2)  # whoever is asked first answers last
    answers = kowalski.query(queries=queries, use_batch_query=batch)["default"]
    assert [answer["data"] for answer in answers] == [[{"candid": candid}] for candid in CANDIDS]
    assert [answer.index for answer in answers] == list(range(5))
    assert queries_of(box) == ["find"] * 5


def test_a_batch_on_several_instances_has_labels(box, start):
    second = start("second", catalogs=["ZTF_alerts"])
    kowalski = Kowalski(instances={"A": entry(box), "B": entry(second)})
    queries = [find(candid=candid) for candid in CANDIDS]
    found = kowalski.query(queries=queries, use_batch_query=True)
    assert {name: [answer.index for answer in answers] for name, answers in found.items()} == {
        "A": [0, 2, 4],
        "B": [1, 3],
    }
    answers = sorted((one for several in found.values() for one in several), key=lambda one: one.index)
    assert [answer["data"] for answer in answers] == [[{"candid": candid}] for candid in CANDIDS]


def test_batch_query_answers_in_the_order_of_its_lists(kowalski, box):
    box.delay(0.2)
    found = kowalski.batch_query({"default": [find(candid=candid) for candid in CANDIDS]}, n_threads=3)
    assert [one["default"]["data"][0]["candid"] for one in found] == CANDIDS


def test_a_batch_query_of_which_one_instance_gets_nothing(box, start):
    kowalski = Kowalski(instances={"A": entry(box), "B": entry(start("B"))})
    answers = kowalski.query(query=find(objectId=OBJECT), use_batch_query=True)
    assert list(answers) == ["A"]
    assert len(answers["A"]["data"]) == 5


def test_one_failed_query_leaves_the_others(kowalski, box):
    queries = [
        counting(),
        {"query_type": "bogus", "query": {"catalog": "ZTF_alerts"}},
        counting(objectId=OBJECT),
    ]
    first, second, third = kowalski.query(queries=queries, use_batch_query=True)["default"]
    assert (first["data"], third["data"]) == (OTHERS + 5, 5)
    assert second["status"] == "error"
    assert "bogus not in" in second["message"]
    assert isinstance(second.error, errors.FilterError)


@pytest.mark.parametrize("batch", [False, True])
def test_one_lost_answer_leaves_the_others(kowalski, box, batch):
    box.answer(body=b"<html>Bad gateway</html>", content_type="text/html", status=502, times=4)
    queries = [counting()] * 3
    answers = kowalski.query(queries=queries, use_batch_query=batch, max_n_threads=1)["default"]
    assert [answer["status"] for answer in answers] == ["error", "success", "success"]
    assert isinstance(answers[0].error, errors.ServerError)
    assert answers[0].error.status == 502
    assert [answer.get("data") for answer in answers] == [None, OTHERS + 5, OTHERS + 5]


def test_max_n_threads_bounds_the_requests_at_a_time(archive_path):
    with SandboxKowalski(archive=archive_path, delay_s=0.15) as slow:
        kowalski = Kowalski(token=slow.token, protocol="http", host=slow.host, port=slow.port)
        seconds = {}
        for n, batch in ((1, True), (4, True), (4, False)):
            begin = time.monotonic()
            kowalski.query(queries=[counting()] * 8, use_batch_query=batch, max_n_threads=n)
            seconds[n, batch] = time.monotonic() - begin
    assert seconds[1, True] > 8 * 0.15
    assert 2 * 0.15 < seconds[4, True] < 8 * 0.15
    assert seconds[4, False] > 8 * 0.15


# Logins ---------------------------------------------------------------------------------------------------------------


def test_a_bad_token_is_refused_at_once(where):
    with pytest.raises(errors.LoginError, match=r"default: .*token is invalid") as caught:
        Kowalski(token="bad", **where)
    assert isinstance(caught.value, ValueError)


def test_a_wrong_password_is_refused_and_not_repeated(box, where):
    with pytest.raises(ValueError, match=r"Failed to add instance default: .*refuses the login") as caught:
        Kowalski(username="nobody", password="secret-password", **where)
    assert isinstance(caught.value, errors.LoginError)
    assert "secret-password" not in str(caught.value)


def test_the_token_works_and_each_instance_has_its_own(box, start, where):
    one = Kowalski(username=box.username, password=box.password, **where)
    assert one.token == one.instances["default"]["token"]
    assert Kowalski(token=one.token, **where).ping()
    both = Kowalski(instances={"A": entry(box), "B": entry(start("B"))})
    with pytest.raises(ValueError, match="Please specify instance name when using multiple instances"):
        print(both.token)
    assert both.instances["A"]["token"] != both.instances["B"]["token"]


def test_a_token_that_dies_is_renewed(box, where):
    kowalski = Kowalski(username=box.username, password=box.password, **where)
    old = kowalski.token
    time.sleep(1.1)  # tokens are dated to the second
    box.expire_tokens()
    assert kowalski.query(query=counting())["data"] == OTHERS + 5
    assert kowalski.token == kowalski.instances["default"]["token"] != old


def test_a_token_that_dies_without_a_password_is_an_answer_that_says_so(kowalski, box):
    box.expire_tokens()
    answer = kowalski.query(query=counting())
    assert answer["default"] == {"status": "error", "message": "token has expired"}
    assert isinstance(answer["default"].error, errors.LoginError)
    assert not kowalski.ping()


def test_authenticate_gives_a_new_token(box, where):
    kowalski = Kowalski(username=box.username, password=box.password, **where)
    token = kowalski.authenticate()
    assert token == kowalski.token
    assert Kowalski(token=token, **where).ping()
    with pytest.raises(errors.LoginError):
        Kowalski(token=token, **where).authenticate()


def test_logins_from_the_environment_and_netrc(box, where, tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match="Missing credentials for default: provide either username and password"
    ):
        Kowalski(**where)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {box.username} password {box.password}\n")
    assert Kowalski(**where).ping()
    assert Kowalski(username=box.username, **where).ping()
    with pytest.raises(ValueError, match="Missing credentials for default"):
        Kowalski(username="somebody-else", **where)
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("NUNCIUS_KOWALSKI_TOKEN", box.token)
    assert Kowalski(**where).ping()


# What is sent how often -----------------------------------------------------------------------------------------------


def test_a_query_that_timed_out_is_not_sent_again(box, where):
    kowalski = Kowalski(token=box.token, timeout=1, **where)
    box.requests.clear()
    box.delay(3)
    begin = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        kowalski.query(query=counting())
    assert time.monotonic() - begin < 2
    assert isinstance(caught.value, errors.DeadlineError)
    time.sleep(0.5)
    assert queries_of(box) == ["count_documents"]


def test_the_server_is_told_how_long_we_wait(box, where, monkeypatch):
    from nuncius.archives.server.queries import Queries

    told = []
    shortened = Queries._shortened
    monkeypatch.setattr(
        Queries, "_shortened", lambda self, time, most: told.append(most) or shortened(self, time, most)
    )
    kowalski = Kowalski(token=box.token, timeout=7, **where)
    kowalski.query(query=counting())
    kowalski.query(query={**counting(), "kwargs": {"max_time_ms": 1234}})
    assert told[-2:] == [7000, 1234]


def test_what_fails_for_a_moment_is_asked_again_and_what_writes_is_not(kowalski, box):
    box.fail(status=503, times=2)
    assert kowalski.query(query=counting())["data"] == OTHERS + 5
    assert [request.status for request in box.requests] == [503, 503, 200]
    box.requests.clear()
    box.fail(status=503, times=1)
    with pytest.raises(errors.ServerError, match="503"):
        kowalski.query(query={"query_type": "drop", "query": {"catalog": "ZTF_alerts"}})
    assert [request.status for request in box.requests] == [503]
    box.requests.clear()
    box.fail(status=503, path="/api/users")
    with pytest.raises(errors.ServerError, match="503"):
        kowalski.api("delete", "/api/users/somebody")
    assert [request.status for request in box.requests] == [503]


def test_a_wrong_verb_is_answered_at_once(kowalski, box):
    answer = kowalski.api("put", "/")
    assert answer == {"status": "error", "message": "405: Method Not Allowed"}
    assert len(box.requests) == 1


def test_nobody_there_is_found_out_at_once(box):
    begin = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        Kowalski(token="any", protocol="http", host="127.0.0.1", port=1)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, errors.UnreachableError)
    assert time.monotonic() - begin < 5


# What is no answer of Kowalski ----------------------------------------------------------------------------------------


def test_a_page_of_a_proxy_is_a_typed_error(kowalski, box):
    box.answer(body=b"<html>Please log in</html>", content_type="text/html")
    with pytest.raises(errors.ServerError, match="Please log in") as caught:
        kowalski.query(query=counting())
    assert caught.value.status == 200


def test_a_query_that_is_too_large_is_a_typed_error(kowalski, box):
    box.answer(body=b"Maximum request body size 1048576 exceeded", content_type="text/plain", status=413)
    with pytest.raises(errors.ServerError, match="Ask for fewer") as caught:
        kowalski.query(query=counting())
    assert caught.value.status == 413


def test_a_cut_answer_is_asked_again(kowalski, box):
    box.cut_body()
    assert kowalski.query(query=counting())["data"] == OTHERS + 5
    assert len(box.requests) == 2


# Many positions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cone_search", "near"])
@pytest.mark.parametrize("form", ["names", "pairs"])
def test_too_many_positions_for_one_request_are_sent_in_several(kowalski, box, kind, form):
    count = 40_000
    places = [[round(30 + n / 200, 5), round(-60 + n / 1000, 5)] for n in range(count - 1)] + [list(POSITION)]
    radec = {f"position-{n}": place for n, place in enumerate(places)} if form == "names" else places
    query = cone(radec)
    if kind == "near":
        asked = query["query"]
        query = {
            "query_type": "near",
            "query": {
                "max_distance": 2,
                "distance_units": "arcsec",
                "radec": radec,
                "catalogs": asked["catalogs"],
            },
        }
    found = kowalski.query(query=query)["default"]["data"]["ZTF_alerts"]
    assert len(found) == count
    last = f"position-{count - 1}" if form == "names" else str(list(POSITION)).replace(".", "_")
    assert sorted(alert["candid"] for alert in found[last]) == CANDIDS
    assert sum(map(len, found.values())) == len(CANDIDS)
    if form == "names":
        assert list(found) == list(radec)
    assert len(queries_of(box)) == 2


def test_a_server_that_takes_less_than_usual_gets_smaller_parts(kowalski, box):
    box.answer(body=b"too large", content_type="text/plain", status=413, times=2)
    radec = {f"p{n}": [200.0 + n, 0.0] for n in range(5)} | {"here": list(POSITION)}
    found = kowalski.query(query=cone(radec))["data"]["ZTF_alerts"]
    assert list(found) == list(radec)
    assert sorted(alert["candid"] for alert in found["here"]) == CANDIDS
    assert [request.positions for request in box.requests] == [6, 3, 2, 1, 3]


def test_names_that_would_be_one_are_refused(kowalski, box):
    radec = {"obj.1": [10.0, 20.0], "obj_1": [11.0, 20.0]}
    with pytest.raises(ValueError, match=r"'obj\.1' and 'obj_1'"):
        kowalski.query(query=cone(radec))
    assert box.requests == []


# Values in filters ----------------------------------------------------------------------------------------------------


def test_filters_may_hold_numpy_numbers(kowalski):
    candids = np.array(CANDIDS)
    assert kowalski.query(query=counting(candid=candids[0]))["data"] == 1
    assert kowalski.query(query=counting(candid={"$in": list(candids)}))["data"] == 5
    assert kowalski.query(query=counting(candid={"$in": candids}))["data"] == 5
    assert kowalski.query(query=counting(**{"candidate.ra": {"$gt": np.float32(100)}}))["data"] == 5


def test_positions_may_be_arrays(kowalski):
    found = kowalski.query(query=cone({"here": np.array(POSITION)}))["data"]["ZTF_alerts"]["here"]
    assert len(found) == 5


def test_filters_may_hold_ids(kowalski):
    whole = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {"candid": CANDIDS[0]}}}
    (alert,) = kowalski.query(query=whole)["data"]
    assert isinstance(alert["_id"], ObjectId)
    query = {"query_type": "find", "query": {"catalog": "ZTF_alerts", "filter": {"_id": alert["_id"]}}}
    assert [found["candid"] for found in kowalski.query(query=query)["data"]] == [CANDIDS[0]]


@pytest.mark.parametrize("when", [datetime(2026, 1, 2, tzinfo=UTC), Time("2026-01-02")])
def test_filters_may_hold_times(kowalski, when):
    # The alerts have no dates: the questions are understood, and nothing is found.
    assert kowalski.query(query=counting(created={"$gt": when}))["default"] == {
        "status": "success",
        "message": "Successfully executed query",
        "data": 0,
    }
    pipeline = [{"$match": {"created": {"$lt": when}}}, {"$count": "n"}]
    query = {"query_type": "aggregate", "query": {"catalog": "ZTF_alerts", "pipeline": pipeline}}
    assert kowalski.query(query=query)["data"] == []
    selection = {"filter": {"created": {"$lt": when}}}
    assert kowalski.query(query=cone({"here": list(POSITION)}, ZTF_alerts=selection))["data"] == {
        "ZTF_alerts": {"here": []}
    }


def test_operators_that_we_do_not_know_are_for_the_server_to_judge(kowalski):
    answer = kowalski.query(query=counting(candid={"$futuristic": 1}))["default"]
    assert answer["status"] == "error"
    assert "unknown operator: $futuristic" in answer["message"]


@pytest.mark.parametrize("condition", [{"$and": 5}, {"$or": [5]}, {"candid": {"$in": 5}}])
def test_filters_that_have_no_form_are_typed_errors(kowalski, condition):
    with pytest.raises(errors.FilterError, match="has not the form of one"):
        kowalski.query(query=counting(created=datetime(2026, 1, 2, tzinfo=UTC), **condition))


def test_a_value_that_can_not_be_sent_is_named(kowalski, box):
    with pytest.raises(ValueError, match=r"filter.*candid.*object") as caught:
        kowalski.query(query=counting(candid=object()))
    assert isinstance(caught.value, errors.FilterError)
    deep = value = {}
    for _ in range(100_000):
        value["a"] = value = {}
    with pytest.raises(ValueError, match="nested"):
        kowalski.query(query=counting(**deep))
    assert box.requests == []


def test_the_callers_query_stays_as_it_is(kowalski):
    query = counting(candid={"$in": np.array(CANDIDS)})
    before = copy.deepcopy(query)
    kowalski.query(query=query)
    assert repr(query) == repr(before)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_cutout_is_bytes(kowalski):
    answer = kowalski.api("get", f"/api/cutouts/ztf/{CANDIDS[0]}/science/fits")
    assert (answer["status"], answer["message"]) == ("success", "image/fits")
    with fits.open(io.BytesIO(answer["data"])) as hdus:
        assert hdus[0].data.shape == (63, 63)
    image = kowalski.api("GET", f"api/cutouts/ztf/{CANDIDS[0]}/science/png", data={"cmap": "gray"})
    assert image["data"].startswith(b"\x89PNG")
    missing = kowalski.api("get", "/api/cutouts/ztf/1/science/fits")
    assert missing == {"status": "error", "message": "ztf alert 1 not found"}


# Options --------------------------------------------------------------------------------------------------------------


def test_options_that_do_not_exist_are_refused(box, where, kowalski):
    with pytest.raises(TypeError, match="timeuot"):
        Kowalski(token=box.token, timeuot=3, **where)
    with pytest.raises(TypeError, match="retries"):
        kowalski.add("second", entry(box), retries=3)
    with pytest.raises(ValueError, match="'tokn' is no setting of an instance; did you mean 'token'"):
        kowalski.add("second", {"host": box.host, "tokn": "x"})


@pytest.mark.parametrize("timeout", [0, -1, "5", float("nan"), True])
def test_a_timeout_that_is_none(box, where, timeout):
    with pytest.raises(ValueError, match="timeout="):
        Kowalski(token=box.token, timeout=timeout, **where)


def test_options_of_old_programs_are_accepted(box, where):
    pool = {
        "pool_connections": 2,
        "pool_maxsize": 2,
        "max_retries": 1,
        "backoff_factor": 0,
        "pool_block": True,
    }
    kowalski = Kowalski(token=box.token, verbose=True, timeout=10, **pool, **where)
    assert kowalski.v
    assert kowalski.ping()


@pytest.mark.parametrize("count", [0, -1, 2.5, None, True])
def test_a_number_of_threads_that_is_none(kowalski, count):
    with pytest.raises(ValueError, match="number of threads"):
        kowalski.query(queries=[counting()], use_batch_query=True, max_n_threads=count)


def test_a_certificate_that_is_not_there(box, where, tmp_path):
    with pytest.raises(ValueError, match="certificates"):
        Kowalski(token=box.token, verify=str(tmp_path / "none.pem"), **where)


# Where it runs --------------------------------------------------------------------------------------------------------


def test_it_writes_nothing_to_the_console(box, where, capfd):
    with Kowalski(token=box.token, verbose=True, **where) as kowalski:
        kowalski.query(queries=[counting()] * 3, use_batch_query=True)
        kowalski.query(queries=[{"query_type": "bogus", "query": {}}], name="default")
    assert capfd.readouterr() == ("", "")


def test_it_works_within_a_running_event_loop(kowalski):
    async def cell():
        return kowalski.query(queries=[counting()] * 3, use_batch_query=True)

    answers = asyncio.run(cell())["default"]
    assert [answer["data"] for answer in answers] == [OTHERS + 5] * 3


def test_it_is_shared_by_threads(kowalski):
    found = []
    threads = [
        threading.Thread(target=lambda c=candid: found.append(kowalski.query(query=find(candid=c))["data"]))
        for candid in CANDIDS * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one[0]["candid"] for one in found) == sorted(CANDIDS * 4)


def test_no_secret_shows(box, where):
    kowalski = Kowalski(username=box.username, password=box.password, **where)
    shown = f"{kowalski!r} {kowalski.instances!r} {kowalski.instances['default']}"
    assert box.password not in shown
    assert kowalski.token not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(kowalski)


def test_importing_it_brings_neither_requests_nor_pytest():
    program = (
        "import sys; from nuncius.compat.penquins import Kowalski; "
        "print(sorted({'requests', 'pytest', 'tqdm', 'numpy', 'astropy', 'httpx2', 'bson'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_large_answers_keep_all_digits(kowalski):
    answer = kowalski.query(query=find(objectId=OBJECT))["default"]
    assert sorted(alert["candid"] for alert in answer["data"]) == CANDIDS
    assert json.loads(json.dumps(answer)) == answer
