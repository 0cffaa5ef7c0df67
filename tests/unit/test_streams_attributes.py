"""The filter language of attributes: what passes, what is refused, and with which words."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuncius.errors import FilterError
from nuncius.streams.attributes import AttributeFilter, parse_attribute_filter

LSST = {
    "diaObject_diaObjectId": "3134",
    "pg_variable": "likely",
    "kafka.topic": "lsst-alerts",
    "healpix9": "1",
}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("attributes:diaObject_diaObjectId", True),
        ("attributes:ssObject", False),
        ('attributes:"kafka.topic"', True),
        ('attributes.pg_variable = "likely"', True),
        ('attributes.pg_variable="likely"', True),
        ('attributes.pg_variable = "Likely"', False),
        ('attributes.pg_variable != "likely"', False),
        ('attributes.pg_variable != "unlikely"', True),
        ('attributes.missing = ""', False),
        ('attributes.missing != ""', True),
        ('attributes."kafka.topic" = "lsst-alerts"', True),
        ('hasPrefix(attributes."kafka.topic", "lsst")', True),
        ('hasPrefix(attributes.missing, "")', False),
        ('hasPrefix(attributes.healpix9, "")', True),
        ("NOT attributes:ssObject", True),
        ("-attributes:ssObject", True),
        ("-attributes:healpix9", False),
        ("NOT(attributes:healpix9)", False),
        ("attributes:healpix9 AND attributes:missing", False),
        ("attributes:healpix9 OR attributes:missing", True),
        ("NOT attributes:missing AND attributes:healpix9", True),
        ("NOT (attributes:missing AND attributes:healpix9) AND attributes:healpix9", True),
        ("attributes:healpix9 AND (attributes:missing OR attributes:pg_variable)", True),
        ("((attributes:missing))", False),
        (" \n attributes:healpix9\t", True),
    ],
)
def test_what_passes(text, passes):
    assert parse_attribute_filter(text)(LSST) is passes


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"a\"b"', 'a"b'),
        (r'"a\\b"', "a\\b"),
        (r'"\x41\101\u0041\U00000041"', "AAAA"),
        (r'"\n\t"', "\n\t"),
        ('"é"', "é"),
        (r'"\u00e9"', "é"),
        ('"it\'s"', "it's"),
        ('""', ""),
    ],
)
def test_texts_in_quotes(written, value):
    assert parse_attribute_filter(f"attributes.k = {written}")({"k": value})
    assert parse_attribute_filter(f"attributes:{written}")({value: ""})
    assert not parse_attribute_filter(f"attributes.k = {written}")({"k": value + "x"})


def test_keys_with_hyphens_and_digits():
    assert parse_attribute_filter("attributes:my-key")({"my-key": ""})
    assert parse_attribute_filter("attributes:2mass")({"2mass": ""})
    assert parse_attribute_filter('attributes.AND = "1" AND attributes.NOT = "2"')({"AND": "1", "NOT": "2"})


@pytest.mark.parametrize(
    ("text", "column", "cure"),
    [
        ('pg_variable = "likely"', 1, "attributes.KEY"),
        ("attributes.kafka.topic = 1", 17, 'stands in quotes: attributes."kafka.topic"'),
        ("attributes.x", 13, '= "value"'),
        ("attributes.x = likely", 16, 'in double quotes: "likely"'),
        ("attributes.x = 'likely'", 16, "double quotes"),
        ('attributes.x = "likely', 16, "not closed"),
        ('attributes.x > "3"', 14, "attributes are texts"),
        ('attributes.x == "3"', 15, "a value in double quotes"),
        ("attributes:x and attributes:y", 14, "capitals: AND"),
        ("attributes:x AND attributes:y OR attributes:z", 31, "put parentheses"),
        ("attributes:x attributes:y", 14, "AND, OR or the end"),
        ("attributes:x AND", 17, "no comparison"),
        ("(attributes:x", 14, "a parenthesis is not closed"),
        ("attributes:x)", 13, "AND, OR or the end"),
        ("NOT NOT attributes:x", 5, "no comparison"),
        ("hasPrefix(attributes:x)", 21, "attributes.KEY"),
        ("hasPrefix(attributes.x)", 23, "after a comma"),
        ('hasPrefix("x", "y")', 11, "attributes.KEY"),
        ('hasSuffix(attributes.x, "y")', 1, "hasPrefix"),
        ("attributes", 11, "attributes:KEY"),
        ("attributes:", 12, "a key was expected"),
        (r'attributes:"\q"', 12, "a backslash itself"),
        (r'attributes:"\ud800"', 12, "no character"),
        (r'attributes:"\UFFFFFFFF"', 12, "no character"),
        ("attributes:a/b", 13, "double quotes"),
        ("attributes:\ud800", 12, "half of a character"),
        ("(" * 31 + "attributes:x" + ")" * 31, 31, "flatter"),
    ],
)
def test_what_is_refused(text, column, cure):
    with pytest.raises(FilterError) as caught:
        parse_attribute_filter(text)
    assert caught.value.position == f"column {column}"
    assert cure in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", None, 3, b"attributes:x"])
def test_no_filter_at_all(text):
    with pytest.raises(FilterError, match="is no filter; write one such as attributes:KEY"):
        parse_attribute_filter(text)


def test_length():
    """Google counts bytes, not characters."""
    fits = f'attributes:"{"x" * 243}"'
    assert len(fits.encode()) == 256
    assert parse_attribute_filter(fits)({"x" * 243: ""})
    with pytest.raises(FilterError, match="at most 256 bytes, not 257"):
        parse_attribute_filter(fits + " ")
    with pytest.raises(FilterError, match="at most 256 bytes"):
        parse_attribute_filter(f'attributes:"{"é" * 130}"')


def test_it_is_a_value():
    made = parse_attribute_filter("attributes:x")
    assert (made.text, repr(made)) == ("attributes:x", "AttributeFilter(text='attributes:x')")
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made)
    assert again({"x": ""})
    assert isinstance(again, AttributeFilter)


# Against another way to say the same ------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "kafka.topic", "é"])
VALUES = st.sampled_from(["", "1", "10", 'q"\\'])


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def comparisons(draw):
    key, value = draw(KEYS), draw(VALUES)
    kind = draw(st.sampled_from([":", "=", "!=", "hasPrefix"]))
    if kind == ":":
        return f"attributes:{quoted(key)}", lambda held: key in held
    if kind == "hasPrefix":
        text = f"hasPrefix(attributes.{quoted(key)}, {quoted(value)})"
        return text, lambda held: key in held and held[key].startswith(value)
    wanted = kind == "="
    return f"attributes.{quoted(key)}{kind}{quoted(value)}", lambda held: (held.get(key) == value) is wanted


def combined(parts):
    chains = st.tuples(
        st.sampled_from([(" AND ", all), (" OR ", any)]), st.lists(parts, min_size=2, max_size=3)
    )
    joined = chains.map(
        lambda chain: (
            "(" + chain[0][0].join(text for text, _ in chain[1]) + ")",
            lambda held: chain[0][1](test(held) for _, test in chain[1]),
        )
    )
    negated = joined.map(lambda part: (f"NOT {part[0]}", lambda held: not part[1](held)))
    return joined | negated


@settings(max_examples=150, deadline=None)
@given(st.recursive(comparisons(), combined, max_leaves=6), st.dictionaries(KEYS, VALUES))
def test_any_filter_means_what_it_says(made, held):
    text, test = made
    if len(text.encode()) <= 256:
        assert parse_attribute_filter(text)(held) is test(held)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('attributes:.AND OR NOT-("\\x41=!') | st.characters(), max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        answer = parse_attribute_filter(text)({})
    except FilterError as error:
        answer = "attribute_filter" in str(error)
    assert answer in {True, False}
