"""What is asked of a record that is decoded in parts: it says what the whole record says."""


def check_parts(values, found, lists, keys, entry):
    """Compare a whole record with its parts; raise where they differ.

    `found` has pairs for the entries of the lists: where one begins, and its keys; `entry` gives the one that begins there.
    """
    made = {**found}
    for name in lists:
        if found.get(name) is None:
            continue
        keyed = [{key: part for key, part in whole.items() if key in keys} for whole in values[name]]
        if repr([some for _, some in found[name]]) != repr(keyed):
            raise AssertionError(f"{found[name]!r} are not the keys of {values[name]!r}")
        full = [{key: part for key, part in whole.items() if part is not None} for whole in values[name]]
        single = [entry(name, begin) for begin, _ in found[name]]
        if repr(single) != repr(full):
            raise AssertionError(f"{single!r} are not {full!r}")
        made[name] = values[name]
    if repr(made) != repr(values):
        raise AssertionError(f"{made!r} is not {values!r}")
