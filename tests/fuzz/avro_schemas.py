"""The schemas that are fuzzed: each kind of type, and the shapes that alerts have.

The first byte of an input chooses one, so that the order stands for the kept corpus: new ones go to the end.
"""


def record(name, *fields, **more):
    """Make a record type of (name, type) pairs."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": field, "type": kind} for field, kind in fields],
        **more,
    }


def logical(kind, name, **more):
    """Make a logical type."""
    return {"type": kind, "logicalType": name, **more}


def array(items):
    """Make an array type."""
    return {"type": "array", "items": items}


def mapping(values):
    """Make a map type."""
    return {"type": "map", "values": values}


BAND = {"type": "enum", "name": "band", "symbols": ["g", "r", "i"]}
STAMP = {"type": "fixed", "name": "stamp", "size": 5}
POINT = record("point", ("jd", "double"), ("flux", ["null", "float"]), ("band", ["null", "band"]))
EARLIER = record(
    "earlier",
    ("jd", "double"),
    ("candid", ["null", "long"]),
    ("name", ["string", "null"]),
    ("band", "string"),
    ("raw", "bytes"),
    ("nothing", "null"),
    ("mag", ["null", "float", "int"]),
)

SCHEMAS = [
    record(
        "all",
        ("nothing", "null"),
        ("yes", "boolean"),
        ("small", "int"),
        ("large", "long"),
        ("single", "float"),
        ("double", "double"),
        ("bytes", "bytes"),
        ("text", "string"),
        ("band", BAND),
        ("stamp", STAMP),
        ("texts", array("string")),
        ("named", mapping("long")),
        ("either", ["null", "string", "long", "band"]),
    ),
    record(
        "logical",
        ("ms", logical("long", "timestamp-millis")),
        ("us", logical("long", "timestamp-micros")),
        ("local", logical("long", "local-timestamp-micros")),
        ("day", logical("int", "date")),
        ("clock", logical("int", "time-millis")),
        ("fine_clock", logical("long", "time-micros")),
        ("decimal", logical("bytes", "decimal", precision=9, scale=2)),
        (
            "fixed_decimal",
            {
                "type": "fixed",
                "name": "money",
                "size": 6,
                "logicalType": "decimal",
                "precision": 12,
                "scale": 3,
            },
        ),
        ("id", ["null", logical("string", "uuid")]),
        ("unknown", logical("string", "nothing-known")),
    ),
    record(
        "alert",
        ("objectId", "string"),
        ("candid", "long"),
        (
            "candidate",
            record(
                "candidate", ("ra", "double"), ("dec", "double"), ("band", BAND), ("rb", ["float", "null"])
            ),
        ),
        ("earlier", ["null", array(POINT)]),
        ("forced", array("point")),
        ("cutout", ["null", record("cutout", ("fileName", "string"), ("stampData", "bytes"))]),
        ("cutout2", ["null", "cutout"]),
        ("classes", mapping(record("class", ("p", "float"), ("version", ["null", "string"])))),
        ("mjd", "double"),
        namespace="survey.v1",
    ),
    record(  # a record that contains itself in each way
        "tree",
        ("value", "long"),
        ("next", ["null", "tree"]),
        ("children", array("tree")),
        ("named", mapping("tree")),
    ),
    record("endless", ("value", "null"), ("again", ["endless"])),
    record(
        "pair",
        ("left", ["null", "pair"]),
        ("other", record("other", ("right", ["null", "pair"]), ("x", "string"))),
    ),
    record("repeats", ("a", "long"), ("b", ["null", "string"]), ("a", ["null", "float"]), ("c", "string")),
    record(  # what takes no bytes, and what is passed over in one step
        "sizes",
        ("nulls", mapping("null")),
        ("points", array(record("fix", ("x", "double"), ("y", "float"), ("z", STAMP), ("n", "null")))),
        ("flags", array("boolean")),
        ("empty", record("empty")),
        ("none", ["null"]),
        ("blocks", array(array("long"))),
        ("end", "int"),
    ),
    array(["null", "long", mapping("bytes")]),
    ["null", "string", record("r", ("a", "bytes")), array("double")],
    "string",
    record("wide", *((f"f{i}", ["null", "double"]) for i in range(40)), ("last", "long")),
    record(  # its lists are decoded in parts too, and it contains itself
        "history",
        ("candid", "long"),
        ("earlier", ["null", array(EARLIER)]),
        ("forced", array("earlier")),
        ("again", ["null", "history"]),
        ("fits", [array(record("fit", ("jd", "double"), ("chi", "float"), ("good", "boolean"))), "null"]),
        ("image", "bytes"),
        namespace="survey.v2",
    ),
    record(  # and so are values that take no bytes, in the lists or beside them
        "nulls",
        ("candid", "int"),
        ("sparse", array(record("sparse", *((f"n{i}", "null") for i in range(60)), ("id", "int")))),
        ("named", mapping(record("nothing", *((f"n{i}", "null") for i in range(60))))),
    ),
]
