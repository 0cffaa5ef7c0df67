"""Answers as values: what they look like to programs of either age."""

import copy
import json
import pickle

import pytest
from bson import json_util

from nuncius.compat.penquins import Answer, Answers, __version__
from nuncius.compat.penquins.answers import merged
from nuncius.errors import ServerError

CONTENT = {"status": "success", "message": "Successfully executed query", "data": [1, 2]}


def test_the_version_of_the_interface():
    assert __version__ == "2.4.2"


def test_an_answer_is_the_mapping_that_it_was():
    answer = Answer(CONTENT, index=3)
    assert answer == CONTENT
    assert dict(answer) == {**answer} == CONTENT
    assert list(answer.items()) == list(CONTENT.items())
    assert list(answer.keys()) == list(CONTENT)
    assert "data" in answer
    assert len(answer) == 3
    assert json.loads(json.dumps(answer)) == json_util.loads(json_util.dumps(answer)) == CONTENT
    for same in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert same == CONTENT
        assert same.index == 3


def test_a_loop_over_an_answer_gives_it_once():
    answer = Answer(CONTENT)
    assert [one.get("data") for one in answer] == [[1, 2]]


def test_a_failed_answer_has_its_error():
    error = ServerError("it broke", status=500)
    answer = Answer.failed(error)
    assert answer == {"status": "error", "message": "it broke"}
    assert pickle.loads(pickle.dumps(answer)).error.status == 500


def test_one_answer_in_the_old_form():
    response = Answers({"default": Answer(CONTENT)})
    assert response.get("data") == response["data"] == response.get("default").get("data") == [1, 2]
    assert response["status"] == "success"
    assert "data" in response
    assert list(response.items()) == [("default", CONTENT)]
    assert response == {"default": CONTENT}
    assert (len(response), list(response)) == (1, ["default"])


def test_what_is_not_there():
    empty = Answers({"default": Answer({"status": "success", "message": ""})})
    assert empty.get("data") is None
    assert empty.get("data", 7) == 7
    assert "data" not in empty
    several = Answers({"A": Answer(CONTENT), "B": Answer(CONTENT)})
    batch = Answers({"default": [Answer(CONTENT)]})
    for response in (empty, several, batch, Answers()):
        with pytest.raises(KeyError, match="data"):
            response["data"]


def test_an_instance_may_have_any_name():
    response = Answers({"data": Answer(CONTENT)})
    assert response["data"] == CONTENT


def test_parts_are_put_together():
    parts = [
        Answer({"status": "success", "message": "m", "data": {"A": {"p0": [1]}, "B": {"p0": []}}}),
        Answer({"status": "success", "message": "m", "data": {"A": {"p1": [2]}, "B": {"p1": [3]}}}),
    ]
    assert merged(parts) == {
        "status": "success",
        "message": "m",
        "data": {"A": {"p0": [1], "p1": [2]}, "B": {"p0": [], "p1": [3]}},
    }
    failed = Answer.failed(ServerError("it broke"))
    assert merged([parts[0], failed]) is failed
    with pytest.raises(ServerError, match="not sorted by catalog"):
        merged([parts[0], Answer({"status": "success", "data": []})])
