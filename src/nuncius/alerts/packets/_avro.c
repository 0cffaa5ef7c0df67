/* Avro records to Python values, by a program that was made of the writer's schema once.
 *
 * A program is a list of nodes, each a type with the numbers of the types that it is made of; compiled.py makes it. A field
 * that nobody asked for is passed over without making its value. The bytes come from strangers: every length is checked
 * before it is used, depth is bounded, and so is the number of values that some bytes may become.
 *
 * Only the stable interface of Python 3.11 is used, so that one build serves all later versions.
 *
 * Source: Apache Avro 1.12 specification, "Binary Encoding".
 */
#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum kind {
    NOTHING, BOOLEAN, LONG, FLOAT, DOUBLE, BYTES, STRING, FIXED, ENUM, ARRAY, MAP, UNION, RECORD, KINDS
};

/* Deeper than any schema that is accepted; only records that contain themselves can go there. */
#define MAX_DEPTH 200
/* Some bytes can become many values: a record of nulls takes none. Real alerts hold 1 value in 5 to 60 bytes, and a few
 * thousand in all; but a few compressed bytes may become very many. */
#define VALUES_PER_BYTE 4
#define VALUES_AT_LEAST 100000
#define VALUES_AT_MOST 10000000
#define SHOWN_PATH 8

typedef struct {
    int kind;
    int repeats;             /* of a record: whether two fields have one name */
    int style;               /* of an array 1: its items are pairs of the byte where one begins and its value;
                                of a record 1: fields that are null are left out */
    Py_ssize_t count;        /* how many children; of an enum, how many symbols */
    Py_ssize_t *children;    /* numbers of nodes */
    unsigned char *wanted;   /* of a record: the fields whose values are made */
    Py_ssize_t looked_at;    /* of a record: the fields behind these are not even passed over */
    Py_ssize_t fixed;        /* the size of each value in bytes, or -1 if it varies */
    Py_ssize_t least;        /* the least size of a value */
    PyObject **names;        /* of a record's fields, or an enum's symbols */
    PyObject *blank;         /* of a record: a dict with None for each wanted field */
    PyObject *convert;       /* of a logical type: what makes its value, called with the value and the schema */
    PyObject *schema;
} Node;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count;
    Node *nodes;
} Program;

typedef struct {
    const Node *nodes;
    const unsigned char *begin, *at, *end;
    int64_t values_left;
    int depth;
    const char *reason;      /* why it can't be read; NULL while all is well, or if Python has raised */
    int named;
    PyObject *path[SHOWN_PATH];
} Cursor;

typedef struct {
    PyObject *damaged;
} State;

/* Small parts ---------------------------------------------------------------------------------------------------------- */

static int fail(Cursor *c, const char *reason) {
    if (c->reason == NULL) c->reason = reason;
    return -1;
}

static inline Py_ssize_t left(const Cursor *c) {
    return (Py_ssize_t)(c->end - c->at);
}

static inline int read_long(Cursor *c, int64_t *value) {
    uint64_t result = 0;
    const unsigned char *at = c->at, *end = c->end;
    for (int shift = 0;; shift += 7) {
        if (at == end) return fail(c, "the bytes end within a number");
        unsigned char byte = *at++;
        if (shift == 63 && byte > 1) return fail(c, "a number is longer than 64 bits");
        result |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            c->at = at;
            *value = (int64_t)((result >> 1) ^ (~(result & 1) + 1));
            return 0;
        }
    }
}

/* Read a length, and see that so many bytes are there. */
static inline int read_size(Cursor *c, Py_ssize_t *size) {
    int64_t value;
    if (read_long(c, &value) < 0) return -1;
    if (value < 0) return fail(c, "a length is negative");
    if (value > (int64_t)left(c)) return fail(c, "the bytes end within a value");
    *size = (Py_ssize_t)value;
    return 0;
}

/* Count the parts of a value before they are made or passed over. */
static inline int take(Cursor *c, int64_t count) {
    if (count > c->values_left) return fail(c, "it holds more values than are allowed");
    c->values_left -= count;
    return 0;
}

/* Read the number of items of a block of an array or map, and where it ends if that is given (else NULL). */
static int read_block(Cursor *c, const Node *item, Py_ssize_t extra, Py_ssize_t *count, const unsigned char **end) {
    int64_t n;
    *end = NULL;
    if (read_long(c, &n) < 0) return -1;
    if (n < 0) {
        Py_ssize_t size;
        if (n == INT64_MIN) return fail(c, "a count is impossible");
        n = -n;
        if (read_size(c, &size) < 0) return -1;
        *end = c->at + size;
    }
    Py_ssize_t least = item->least + extra;
    if (least > 0 && n > (int64_t)(left(c) / least)) return fail(c, "a count is larger than the bytes that are left");
    *count = (Py_ssize_t)n;
    return take(c, n);
}

static void note_name(Cursor *c, PyObject *name) {
    if (c->named < SHOWN_PATH) c->path[c->named++] = name;
}

/* Passing over --------------------------------------------------------------------------------------------------------- */

static int skip(Cursor *c, Py_ssize_t number);

/* Pass over a text, and see that it is one: who passes over a value may never decode it. */
static int skip_text(Cursor *c) {
    Py_ssize_t size, plain = 0;
    if (read_size(c, &size) < 0) return -1;
    while (plain < size && c->at[plain] < 0x80) plain++;
    if (plain < size) {
        PyObject *text = PyUnicode_DecodeUTF8((const char *)c->at, size, NULL);
        if (text == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) return -1;
            PyErr_Clear();
            return fail(c, "a text is not UTF-8");
        }
        Py_DECREF(text);
    }
    c->at += size;
    return 0;
}

static int skip_items(Cursor *c, const Node *node) {
    const Node *item = &c->nodes[node->children[0]];
    Py_ssize_t is_map = node->kind == MAP;
    for (;;) {
        Py_ssize_t count;
        const unsigned char *end;
        if (read_block(c, item, is_map, &count, &end) < 0) return -1;
        if (count == 0) break;
        if (item->fixed >= 0 && item->kind != RECORD && !is_map) {
            c->at += count * item->fixed; /* read_block has seen that they are there */
        } else {
            for (Py_ssize_t i = 0; i < count; i++) {
                if (is_map && skip_text(c) < 0) return -1;
                if (skip(c, node->children[0]) < 0) return -1;
            }
        }
        if (end != NULL && c->at != end) return fail(c, "a block does not have the size that it says");
    }
    return 0;
}

static int skip(Cursor *c, Py_ssize_t number) {
    const Node *node = &c->nodes[number];
    int64_t value;
    Py_ssize_t size;
    int result = 0;
    if (node->fixed >= 0 && node->kind != RECORD) { /* the values of a record are counted, as when they are made */
        if (node->fixed > left(c)) return fail(c, "the bytes end within a value");
        c->at += node->fixed;
        return 0;
    }
    switch (node->kind) {
    case LONG:
        return read_long(c, &value);
    case ENUM:
        if (read_long(c, &value) < 0) return -1;
        return value < 0 || value >= node->count ? fail(c, "a symbol is not one of its type") : 0;
    case BYTES:
        if (read_size(c, &size) < 0) return -1;
        c->at += size;
        return 0;
    case STRING:
        return skip_text(c);
    default:
        break;
    }
    if (++c->depth > MAX_DEPTH) return fail(c, "it nests too deep");
    if (node->kind == UNION) {
        if (read_long(c, &value) < 0) return -1;
        if (value < 0 || value >= node->count) return fail(c, "a union has no such branch");
        result = skip(c, node->children[value]);
    } else if (node->kind == RECORD) {
        result = take(c, node->count);
        for (Py_ssize_t i = 0; i < node->count && result == 0; i++) {
            result = skip(c, node->children[i]);
            if (result < 0) note_name(c, node->names[i]);
        }
    } else {
        result = skip_items(c, node);
    }
    c->depth--;
    return result;
}

/* Making values -------------------------------------------------------------------------------------------------------- */

static PyObject *decode(Cursor *c, Py_ssize_t number);

static PyObject *decode_float(Cursor *c) {
    uint32_t bits;
    float value;
    if (left(c) < 4) { fail(c, "the bytes end within a value"); return NULL; }
    const unsigned char *b = c->at;
    bits = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    memcpy(&value, &bits, sizeof value);
    c->at += 4;
    return PyFloat_FromDouble((double)value);
}

static PyObject *decode_double(Cursor *c) {
    uint64_t bits = 0;
    double value;
    if (left(c) < 8) { fail(c, "the bytes end within a value"); return NULL; }
    for (int i = 7; i >= 0; i--) bits = bits << 8 | c->at[i];
    memcpy(&value, &bits, sizeof value);
    c->at += 8;
    return PyFloat_FromDouble(value);
}

static PyObject *decode_text(Cursor *c) {
    Py_ssize_t size;
    if (read_size(c, &size) < 0) return NULL;
    PyObject *text = PyUnicode_DecodeUTF8((const char *)c->at, size, NULL);
    if (text == NULL) {
        if (PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear();
            fail(c, "a text is not UTF-8");
        }
        return NULL;
    }
    c->at += size;
    return text;
}

static PyObject *decode_bytes(Cursor *c, Py_ssize_t size) {
    if (size > left(c)) { fail(c, "the bytes end within a value"); return NULL; }
    PyObject *value = PyBytes_FromStringAndSize((const char *)c->at, size);
    if (value != NULL) c->at += size;
    return value;
}

static PyObject *decode_array(Cursor *c, const Node *node) {
    const Node *item = &c->nodes[node->children[0]];
    PyObject *list = PyList_New(0);
    if (list == NULL) return NULL;
    for (;;) {
        Py_ssize_t count;
        const unsigned char *end;
        if (read_block(c, item, 0, &count, &end) < 0) goto error;
        if (count == 0) return list;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_ssize_t begin = (Py_ssize_t)(c->at - c->begin);
            PyObject *value = decode(c, node->children[0]);
            if (value != NULL && node->style) value = Py_BuildValue("(nN)", begin, value);
            if (value == NULL) goto error;
            int status = PyList_Append(list, value);
            Py_DECREF(value);
            if (status < 0) goto error;
        }
        if (end != NULL && c->at != end) { fail(c, "a block does not have the size that it says"); goto error; }
    }
error:
    Py_DECREF(list);
    return NULL;
}

static PyObject *decode_map(Cursor *c, const Node *node) {
    const Node *item = &c->nodes[node->children[0]];
    PyObject *dict = PyDict_New();
    if (dict == NULL) return NULL;
    for (;;) {
        Py_ssize_t count;
        const unsigned char *end;
        if (read_block(c, item, 1, &count, &end) < 0) goto error;
        if (count == 0) return dict;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *key = decode_text(c);
            if (key == NULL) goto error;
            PyObject *value = decode(c, node->children[0]);
            int status = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
            Py_DECREF(key);
            Py_XDECREF(value);
            if (status < 0) goto error;
        }
        if (end != NULL && c->at != end) { fail(c, "a block does not have the size that it says"); goto error; }
    }
error:
    Py_DECREF(dict);
    return NULL;
}

static PyObject *decode_record(Cursor *c, const Node *node) {
    if (take(c, node->count) < 0) return NULL;
    /* A copy of a full dict is quicker than one that grows, and holds the nulls already. */
    PyObject *dict = node->style ? PyDict_New() : PyDict_Copy(node->blank);
    if (dict == NULL) return NULL;
    for (Py_ssize_t i = 0; i < node->looked_at; i++) {
        Py_ssize_t child = node->children[i];
        if (!node->wanted[i]) {
            if (skip(c, child) < 0) { note_name(c, node->names[i]); goto error; }
            continue;
        }
        PyObject *value = decode(c, child);
        if (value == NULL) { note_name(c, node->names[i]); goto error; }
        int status = value == Py_None && !node->repeats ? 0 : PyDict_SetItem(dict, node->names[i], value);
        Py_DECREF(value);
        if (status < 0) goto error;
    }
    return dict;
error:
    Py_DECREF(dict);
    return NULL;
}

static PyObject *decode_plain(Cursor *c, const Node *node) {
    int64_t value;
    Py_ssize_t size;
    switch (node->kind) {
    case NOTHING:
        Py_INCREF(Py_None);
        return Py_None;
    case BOOLEAN:
        if (left(c) < 1) { fail(c, "the bytes end within a value"); return NULL; }
        return PyBool_FromLong(*c->at++ != 0);
    case LONG:
        return read_long(c, &value) < 0 ? NULL : PyLong_FromLongLong(value);
    case FLOAT:
        return decode_float(c);
    case DOUBLE:
        return decode_double(c);
    case BYTES:
        return read_size(c, &size) < 0 ? NULL : decode_bytes(c, size);
    case STRING:
        return decode_text(c);
    case FIXED:
        return decode_bytes(c, node->fixed);
    case ENUM:
        if (read_long(c, &value) < 0) return NULL;
        if (value < 0 || value >= node->count) { fail(c, "a symbol is not one of its type"); return NULL; }
        Py_INCREF(node->names[value]);
        return node->names[value];
    default:
        break;
    }
    PyObject *result = NULL;
    if (++c->depth > MAX_DEPTH) { fail(c, "it nests too deep"); return NULL; }
    if (node->kind == UNION) {
        if (read_long(c, &value) < 0) return NULL;
        if (value < 0 || value >= node->count) { fail(c, "a union has no such branch"); return NULL; }
        result = decode(c, node->children[value]);
    } else if (node->kind == RECORD) {
        result = decode_record(c, node);
    } else {
        result = node->kind == ARRAY ? decode_array(c, node) : decode_map(c, node);
    }
    c->depth--;
    return result;
}

static PyObject *decode(Cursor *c, Py_ssize_t number) {
    const Node *node = &c->nodes[number];
    PyObject *value = decode_plain(c, node);
    if (value == NULL || node->convert == NULL) return value;
    PyObject *converted = PyObject_CallFunctionObjArgs(node->convert, value, node->schema, Py_None, NULL);
    Py_DECREF(value);
    return converted;
}

/* Errors --------------------------------------------------------------------------------------------------------------- */

/* Raise what a cursor has noted: the reason, the byte, and the fields from the outermost to the innermost. */
static void raise_damaged(PyObject *module, Cursor *c) {
    if (c->reason == NULL || PyErr_Occurred()) return;
    PyObject *names = PyTuple_New(c->named);
    if (names == NULL) return;
    for (int i = 0; i < c->named; i++) {
        PyObject *name = c->path[c->named - 1 - i];
        Py_INCREF(name);
        PyTuple_SetItem(names, i, name);
    }
    State *state = PyModule_GetState(module);
    PyObject *arguments = Py_BuildValue("(snN)", c->reason, (Py_ssize_t)(c->at - c->begin), names);
    if (arguments == NULL) return;
    PyErr_SetObject(state->damaged, arguments);
    Py_DECREF(arguments);
}

/* The program ---------------------------------------------------------------------------------------------------------- */

static void clear_node(Node *node) {
    if (node->names != NULL)
        for (Py_ssize_t i = 0; i < node->count; i++) Py_XDECREF(node->names[i]);
    PyMem_Free(node->names);
    PyMem_Free(node->children);
    PyMem_Free(node->wanted);
    Py_XDECREF(node->blank);
    Py_XDECREF(node->convert);
    Py_XDECREF(node->schema);
}

static void program_dealloc(PyObject *self) {
    Program *program = (Program *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (program->nodes != NULL)
        for (Py_ssize_t i = 0; i < program->count; i++) clear_node(&program->nodes[i]);
    PyMem_Free(program->nodes);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Fill the names of a record or an enum, and a record's blank. */
static int fill_names(Node *node, PyObject *names, PyObject *wanted) {
    Py_ssize_t count = PyTuple_Size(names);
    node->count = count;
    node->names = PyMem_Calloc(count ? (size_t)count : 1, sizeof(PyObject *));
    if (node->names == NULL) { PyErr_NoMemory(); return -1; }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        if (!PyUnicode_Check(name)) { PyErr_SetString(PyExc_TypeError, "a name is a text"); return -1; }
        Py_INCREF(name);
        PyUnicode_InternInPlace(&name);
        node->names[i] = name;
    }
    if (node->kind != RECORD) return 0;
    char *flags;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(wanted, &flags, &size) < 0) return -1;
    if (size != count) { PyErr_SetString(PyExc_ValueError, "a flag for each field"); return -1; }
    node->wanted = PyMem_Malloc(count ? (size_t)count : 1);
    node->blank = PyDict_New();
    if (node->wanted == NULL || node->blank == NULL) { if (!PyErr_Occurred()) PyErr_NoMemory(); return -1; }
    Py_ssize_t filled = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        node->wanted[i] = flags[i] != 0;
        if (!node->wanted[i]) continue;
        filled++;
        if (PyDict_SetItem(node->blank, node->names[i], Py_None) < 0) return -1;
    }
    node->repeats = PyDict_Size(node->blank) != filled;
    return 0;
}

/* One node: (kind, children, names, wanted, looked_at, fixed, least, convert, schema, style). */
static int fill_node(Node *node, PyObject *item, Py_ssize_t nodes) {
    PyObject *children, *names, *wanted, *convert, *schema;
    if (!PyTuple_Check(item)) { PyErr_SetString(PyExc_TypeError, "a node is a tuple"); return -1; }
    if (!PyArg_ParseTuple(item, "iO!O!OnnnOOi", &node->kind, &PyTuple_Type, &children, &PyTuple_Type, &names,
                          &wanted, &node->looked_at, &node->fixed, &node->least, &convert, &schema, &node->style))
        return -1;
    /* Jumps over many values rely on these sizes: one that doesn't vary is its own least. */
    if (node->kind < 0 || node->kind >= KINDS || node->fixed < -1 || node->least < 0 ||
        node->least == PY_SSIZE_T_MAX || (node->fixed >= 0 && node->least != node->fixed)) {
        PyErr_SetString(PyExc_ValueError, "there is no such node");
        return -1;
    }
    if (convert != Py_None) {
        Py_INCREF(convert);
        node->convert = convert;
        Py_INCREF(schema);
        node->schema = schema;
    }
    if ((node->kind == RECORD || node->kind == ENUM) && fill_names(node, names, wanted) < 0) return -1;
    Py_ssize_t count = PyTuple_Size(children);
    Py_ssize_t expected = node->kind == RECORD ? node->count : node->kind == ARRAY || node->kind == MAP ? 1
                          : node->kind == UNION ? count : 0;
    if (count != expected || node->looked_at < 0 || (node->kind == RECORD && node->looked_at > node->count)) {
        PyErr_SetString(PyExc_ValueError, "a node has the wrong number of children");
        return -1;
    }
    if (node->kind == FIXED && node->fixed < 0) {
        PyErr_SetString(PyExc_ValueError, "a fixed type has a size");
        return -1;
    }
    if (node->style && (node->kind == RECORD ? node->repeats : node->kind != ARRAY)) {
        PyErr_SetString(PyExc_ValueError, "a node can't have this style");
        return -1;
    }
    if (node->kind == UNION) node->count = count;
    node->children = PyMem_Calloc(count ? (size_t)count : 1, sizeof(Py_ssize_t));
    if (node->children == NULL) { PyErr_NoMemory(); return -1; }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t child = PyLong_AsSsize_t(PyTuple_GetItem(children, i));
        if (child == -1 && PyErr_Occurred()) return -1;
        if (child < 0 || child >= nodes) { PyErr_SetString(PyExc_IndexError, "there is no such child"); return -1; }
        node->children[i] = child;
    }
    return 0;
}

static PyObject *program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *nodes;
    static char *keywords[] = {"nodes", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", keywords, &PyTuple_Type, &nodes)) return NULL;
    Py_ssize_t count = PyTuple_Size(nodes);
    if (count < 1) { PyErr_SetString(PyExc_ValueError, "a program has a node at least"); return NULL; }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Program *self = (Program *)allocate(type, 0);
    if (self == NULL) return NULL;
    self->nodes = PyMem_Calloc((size_t)count, sizeof(Node));
    if (self->nodes == NULL) { Py_DECREF(self); return PyErr_NoMemory(); }
    self->count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (fill_node(&self->nodes[i], PyTuple_GetItem(nodes, i), count) < 0) { Py_DECREF(self); return NULL; }
    }
    return (PyObject *)self;
}

/* Decode or pass over what stands in args: data and, perhaps, begin. */
static PyObject *run(PyObject *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t n, PyObject *names,
                     int only_skip) {
    Py_buffer view;
    Cursor c;
    Py_ssize_t begin = 0;
    PyObject *result = NULL;
    if (n < 1 || n > 2 || (names != NULL && PyTuple_Size(names) > 0)) {
        PyErr_SetString(PyExc_TypeError, "give data and begin, by position");
        return NULL;
    }
    if (n == 2) {
        begin = PyLong_AsSsize_t(args[1]);
        if (begin == -1 && PyErr_Occurred()) return NULL;
    }
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) return NULL;
    if (begin < 0 || begin > view.len) {
        PyErr_SetString(PyExc_ValueError, "begin lies outside the data");
        PyBuffer_Release(&view);
        return NULL;
    }
    memset(&c, 0, sizeof c);
    c.nodes = ((Program *)self)->nodes;
    c.begin = view.buf;
    c.at = c.begin + begin;
    c.end = c.begin + view.len;
    c.values_left = view.len < (VALUES_AT_MOST - VALUES_AT_LEAST) / VALUES_PER_BYTE
                        ? (int64_t)view.len * VALUES_PER_BYTE + VALUES_AT_LEAST : VALUES_AT_MOST;
    if (only_skip) {
        if (skip(&c, 0) == 0) result = PyLong_FromSsize_t((Py_ssize_t)(c.at - c.begin));
    } else {
        PyObject *value = decode(&c, 0);
        if (value != NULL) result = Py_BuildValue("(Nn)", value, (Py_ssize_t)(c.at - c.begin));
    }
    if (result == NULL) raise_damaged(PyType_GetModule(type), &c);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *program_decode(PyObject *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    return run(self, type, args, n, names, 0);
}

static PyObject *program_skip(PyObject *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    return run(self, type, args, n, names, 1);
}

static PyMethodDef program_methods[] = {
    {"decode", (PyCFunction)(void (*)(void))program_decode, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "decode(data, begin=0, /)\n--\n\nReturn the value at `begin`, and the position behind it."},
    {"skip", (PyCFunction)(void (*)(void))program_skip, METH_METHOD | METH_FASTCALL | METH_KEYWORDS,
     "skip(data, begin=0, /)\n--\n\nPass over the value at `begin`, its lengths checked; return the position behind it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot program_slots[] = {
    {Py_tp_doc, "Program(nodes)\n--\n\nA writer's schema, ready for decoding."},
    {Py_tp_new, program_new},
    {Py_tp_dealloc, program_dealloc},
    {Py_tp_methods, program_methods},
    {0, NULL},
};

static PyType_Spec program_spec = {
    .name = "nuncius.alerts.packets._avro.Program",
    .basicsize = sizeof(Program),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};

/* The module ----------------------------------------------------------------------------------------------------------- */

/* lone_block(raw, begin): the block of a container that has one block from `begin`, where its sync marker stands, to its
 * end: (records, begin, end). None if it is anything else, which Python then looks at. */
static PyObject *lone_block(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n) {
    Py_buffer view;
    Cursor c;
    int64_t count, size;
    if (n != 2) { PyErr_SetString(PyExc_TypeError, "lone_block(raw, begin)"); return NULL; }
    Py_ssize_t begin = PyLong_AsSsize_t(args[1]);
    if (begin == -1 && PyErr_Occurred()) return NULL;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *result = NULL;
    memset(&c, 0, sizeof c);
    c.begin = view.buf;
    c.end = c.begin + view.len;
    if (begin >= 0 && begin <= view.len - 16) {
        const unsigned char *sync = c.begin + begin;
        c.at = sync + 16;
        if (read_long(&c, &count) == 0 && read_long(&c, &size) == 0 && count > 0 && size >= count &&
            size == (int64_t)left(&c) - 16 && memcmp(c.at + size, sync, 16) == 0) {
            Py_ssize_t first = (Py_ssize_t)(c.at - c.begin);
            result = Py_BuildValue("(Lnn)", (long long)count, first, (Py_ssize_t)(first + size));
            PyBuffer_Release(&view);
            return result;
        }
    }
    PyBuffer_Release(&view);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyMethodDef methods[] = {
    {"lone_block", (PyCFunction)(void (*)(void))lone_block, METH_FASTCALL,
     "lone_block(raw, begin, /)\n--\n\nReturn (records, begin, end) of a container's only block, or None."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module) {
    State *state = PyModule_GetState(module);
    state->damaged = PyErr_NewExceptionWithDoc(
        "nuncius.alerts.packets._avro.DamagedError",
        "Bytes that don't fit their schema: the reason, the byte, and the fields from the outermost to the innermost.",
        PyExc_ValueError, NULL);
    if (state->damaged == NULL) return -1;
    if (PyModule_AddObjectRef(module, "DamagedError", state->damaged) < 0) return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &program_spec, NULL);
    if (type == NULL) return -1;
    int status = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return status;
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    if (state != NULL) Py_VISIT(state->damaged);
    return 0;
}

static int clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    if (state != NULL) Py_CLEAR(state->damaged);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_avro",
    .m_doc = "Avro records to Python values; see compiled.py.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__avro(void) {
    return PyModuleDef_Init(&definition);
}
