/* Refusals: the error about a value, and the path to the value as a Python programmer would write it (result.filters[3].fn). */
#include "encode.h"

enum { STEP_CHARACTERS = 40, STEPS = 32 };

/* An error about o; %U in the format is the name of its type. */
int refuse(PyObject *kind, const char *format, PyObject *o) {
    PyObject *type = (PyObject *)Py_TYPE(o), *module = PyObject_GetAttrString(type, "__module__");
    PyObject *name = PyObject_GetAttrString(type, "__qualname__");
    if (module && name && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "builtins"))
        Py_SETREF(name, PyUnicode_FromFormat("%U.%S", module, name));
    if (name) PyErr_Format(kind, format, name);
    Py_XDECREF(module);
    Py_XDECREF(name);
    return -1;
}

static PyObject *take_error(void) {
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

static void give_error(PyObject *error) {
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
}

void path_add(Encoder *e, PyObject *step) {
    if (!e->error) e->error = take_error();
    if (!e->path) e->path = PyList_New(0);
    if (!e->path || PyList_Append(e->path, step ? step : Py_Ellipsis) < 0) PyErr_Clear();
    Py_XDECREF(step);
}

void path_add_index(Encoder *e, Py_ssize_t index) {
    if (!e->error) e->error = take_error();
    path_add(e, PyLong_FromSsize_t(index));
}

/* The step that was added `back` steps ago, if it is an index; else -1. */
static Py_ssize_t index_at(Encoder *e, Py_ssize_t back) {
    Py_ssize_t at = e->path ? PyList_GET_SIZE(e->path) - 1 - back : -1;
    PyObject *step = at >= 0 ? PyList_GET_ITEM(e->path, at) : NULL;
    return step && PyLong_CheckExact(step) ? PyLong_AsSsize_t(step) : -1;
}

static void path_drop(Encoder *e, Py_ssize_t count) {
    Py_ssize_t n = PyList_GET_SIZE(e->path);
    if (PyList_SetSlice(e->path, n - count, n, NULL) < 0) PyErr_Clear();
}

void path_content(Encoder *e, uint64_t tag, PyObject *content) {
    Py_ssize_t outer = index_at(e, 0), inner = index_at(e, 1);
    if (tag == TAG_RECORD && outer == 2 && inner >= 0) { /* [name, fields, values] */
        PyObject *fields = PyList_GetItem(content, 1), *field = fields ? PyList_GetItem(fields, inner) : NULL;
        path_drop(e, 2);
        path_add(e, Py_XNewRef(field));
        PyErr_Clear();
    } else if (tag == TAG_MAP && outer >= 0) { /* [key, value, key, value, ...] */
        PyObject *key = outer & 1 ? PyList_GetItem(content, outer - 1) : NULL;
        path_drop(e, 1);
        path_add(e, Py_XNewRef(key));
        PyErr_Clear();
    } else if ((tag == TAG_SET || tag == TAG_FROZENSET) && outer >= 0) {
        path_drop(e, 1);
        path_add(e, NULL);
    }
}

/* One step as text: .name, [index], ["some key"], or {} for an item without a name, as in a set. */
static PyObject *step_text(PyObject *step) {
    if (step == Py_Ellipsis) return PyUnicode_FromString("{}");
    if (PyUnicode_CheckExact(step) && PyUnicode_IsIdentifier(step) == 1 && PyUnicode_GET_LENGTH(step) <= STEP_CHARACTERS)
        return PyUnicode_FromFormat(".%U", step);
    if (PyUnicode_CheckExact(step) && PyUnicode_GET_LENGTH(step) > STEP_CHARACTERS) {
        PyObject *start = PyUnicode_Substring(step, 0, STEP_CHARACTERS);
        PyObject *result = start ? PyUnicode_FromFormat("[%R...]", start) : NULL;
        Py_XDECREF(start);
        return result;
    }
    int is_short = PyUnicode_CheckExact(step) || PyBool_Check(step) || PyFloat_CheckExact(step) || step == Py_None;
    if (PyLong_CheckExact(step)) {
        int overflow;
        PyLong_AsLongLongAndOverflow(step, &overflow);
        is_short = !overflow;
    }
    return is_short ? PyUnicode_FromFormat("[%R]", step) : PyUnicode_FromFormat("[%s]", Py_TYPE(step)->tp_name);
}

static PyObject *path_text(Encoder *e, const char *root) {
    PyObject *text = PyUnicode_FromString(root);
    Py_ssize_t n = e->path ? PyList_GET_SIZE(e->path) : 0;
    if (e->form == REPLY && n) n--; /* the outermost step leads to the value of a reply [number, value], which `root` names */
    for (Py_ssize_t i = n - 1; text && i >= 0; i--) {
        int skipped = n > STEPS && i == n - 1 - STEPS / 2;
        if (skipped) i = STEPS / 2;
        PyObject *step = skipped ? PyUnicode_FromString(" ... ") : step_text(PyList_GET_ITEM(e->path, i));
        if (step) PyUnicode_AppendAndDel(&text, step);
        else Py_CLEAR(text);
    }
    if (text && !*root && PyUnicode_GET_LENGTH(text) && PyUnicode_READ_CHAR(text, 0) == '.')
        Py_SETREF(text, PyUnicode_Substring(text, 1, PY_SSIZE_T_MAX));
    return text;
}

void path_raise(Encoder *e, const char *root) {
    PyObject *error = e->error ? e->error : take_error();
    PyObject *path = path_text(e, root);
    e->error = NULL;
    Py_CLEAR(e->path);
    if (!path) PyErr_Clear();
    PyObject *kind = (PyObject *)Py_TYPE(error);
    if (path && (kind == PyExc_TypeError || kind == PyExc_ValueError)) {
        PyErr_Format(kind, "%U: %S", path, error);
        Py_DECREF(error);
    } else {
        PyObject *done = path ? PyObject_CallMethod(error, "add_note", "N", PyUnicode_FromFormat("while encoding %U", path)) : NULL;
        if (!done) PyErr_Clear();
        Py_XDECREF(done);
        give_error(error);
    }
    Py_XDECREF(path);
}
